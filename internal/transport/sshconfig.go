package transport

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/kevinburke/ssh_config"
)

// maxIncludes bounds how deep ssh_config files include each other, as in ssh.
const maxIncludes = 16

// value is one setting and where it was found, for error messages.
type value struct {
	text   string
	origin string // "-o", "-P", "~/.ssh/config line 3"
}

// values are settings by lower-case keyword. As in ssh the first that is found
// wins, except for keywords that collect.
type values map[string][]value

func (v values) add(key, text, origin string) {
	key = strings.ToLower(key)
	switch key {
	case "identityfile", "certificatefile":
	default:
		if len(v[key]) > 0 {
			return
		}
	}
	v[key] = append(v[key], value{text: text, origin: origin})
}

// first returns the setting of key, "" if there is none.
func (v values) first(key string) string {
	if len(v[key]) == 0 {
		return ""
	}
	return v[key][0].text
}

// machine is what the settings depend on besides files: whose client this is.
type machine struct {
	home   string // of the local user
	user   string // the local user's name
	system string // the ssh_config of the machine
}

// configFiles reads the ssh_config files that count for o, into vals, as they
// apply to the host called alias.
func configFiles(o Options, m machine, alias string, vals values, log *slog.Logger) error {
	r := &configReader{machine: m, alias: alias, vals: vals, log: log}
	switch o.SSHConfig {
	case "none":
		return nil
	case "":
		if m.home != "" {
			if err := r.readIfThere(filepath.Join(m.home, ".ssh", "config")); err != nil {
				return err
			}
		}
		r.inSystem = true
		return r.readIfThere(m.system)
	}
	path, err := expandHome(o.SSHConfig, m)
	if err != nil {
		return err
	}
	err = r.read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return usage("-F %s: there is no such file (-F none reads no file)", o.SSHConfig)
	}
	return err
}

// systemConfig returns the path of the machine's own ssh_config.
func systemConfig() string {
	if runtime.GOOS == "windows" {
		return filepath.Join(os.Getenv("ProgramData"), "ssh", "ssh_config")
	}
	return "/etc/ssh/ssh_config"
}

// configReader collects what ssh_config files say of one host. The library
// parses lines and Host blocks; Match and Include are done here, because the
// library takes the words behind "Match host a user b" for four host patterns,
// fails on every other criterion, and looks for included files below the
// directory of the passwd entry whatever HOME says.
type configReader struct {
	machine
	alias    string
	inSystem bool // relative Includes are below the directory of the system file
	log      *slog.Logger

	vals  values
	depth int
}

// directive finds the lines that the library must not see as what they are.
var directive = regexp.MustCompile(`(?im)^([ "]*)(match|include)("?(?:[ =]|$))`)

// masked is what directive's keywords are hidden behind; the library lets
// unknown keywords pass.
const masked = "x-transfer-"

func (r *configReader) readIfThere(path string) error {
	err := r.read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (r *configReader) read(path string) error {
	if r.depth >= maxIncludes {
		return usage("%s: files include each other more than %d deep", path, maxIncludes)
	}
	r.depth++
	defer func() { r.depth-- }()

	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("ssh_config: %w", err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o002 != 0 {
		return usage("%s can be written by everybody, who could then send your connections elsewhere: chmod go-w %s", path, path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return usage("ssh_config cannot be used: %v; -F names another, -F none reads no file", err)
	}
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	text = bytes.ReplaceAll(text, []byte("\t"), []byte(" "))
	text = append(text, '\n') // the library drops a last line without one
	cfg, err := decode(directive.ReplaceAll(text, []byte("${1}"+masked+"${2}${3}")))
	if err != nil {
		return usage("%s: %v", path, err)
	}
	return r.apply(path, cfg)
}

// decode parses text; a panic of the library is an error like any other.
func decode(text []byte) (cfg *ssh_config.Config, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("not an ssh_config: %v", p)
		}
	}()
	return ssh_config.DecodeBytes(text)
}

func (r *configReader) apply(path string, cfg *ssh_config.Config) error {
	for i, block := range cfg.Hosts {
		// The first block is what stands before any Host line.
		active := i == 0 || r.hostMatches(block)
		for _, node := range block.Nodes {
			kv, ok := node.(*ssh_config.KV)
			if !ok {
				continue
			}
			origin := fmt.Sprintf("%s line %d", path, kv.Pos().Line)
			switch key := strings.ToLower(strings.Trim(kv.Key, `"`)); key {
			case masked + "match":
				var err error
				if active, err = r.match(kv.Value, origin); err != nil {
					return err
				}
			case masked + "include":
				if !active {
					continue
				}
				if err := r.include(kv.Value, origin); err != nil {
					return err
				}
			default:
				if active && kv.Value != "" {
					r.vals.add(key, kv.Value, origin)
				}
			}
		}
	}
	return nil
}

func (r *configReader) hostMatches(block *ssh_config.Host) bool {
	patterns := make([]string, len(block.Patterns))
	for i, p := range block.Patterns {
		patterns[i] = strings.Trim(p.String(), `"`)
	}
	return matchPatterns(patterns, r.alias)
}

func (r *configReader) include(list, origin string) error {
	for _, name := range splitWords(list) {
		name, err := expandHome(name, r.machine)
		if err != nil {
			return usage("%s: %v", origin, err)
		}
		if !filepath.IsAbs(name) {
			dir := filepath.Join(r.home, ".ssh")
			if r.inSystem {
				dir = filepath.Dir(r.system)
			}
			name = filepath.Join(dir, name)
		}
		found, err := filepath.Glob(name)
		if err != nil {
			return usage("%s: Include %s: %v", origin, name, err)
		}
		for _, path := range found {
			if err := r.readIfThere(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// match evaluates a Match line. A criterion that is not known here (exec
// above all, which would run programs) does not match, with a warning where
// that decides.
func (r *configReader) match(line, origin string) (bool, error) {
	words := splitWords(line)
	if len(words) == 0 {
		return false, usage("%s: Match needs a criterion, such as host or user", origin)
	}
	result := true
	var unknown string
	for len(words) > 0 {
		criterion, negated := strings.CutPrefix(strings.ToLower(words[0]), "!")
		words = words[1:]
		var hit bool
		switch criterion {
		case "all":
			hit = true
		case "canonical", "final":
			hit = false // there is no second pass over the files
		case "host", "originalhost", "user", "localuser":
			if len(words) == 0 {
				return false, usage("%s: Match %s needs a pattern", origin, criterion)
			}
			hit = matchPatterns(strings.Split(words[0], ","), r.subject(criterion))
			words = words[1:]
		default:
			unknown = criterion
			words = words[min(1, len(words)):]
			continue
		}
		if hit == negated {
			result = false
		}
	}
	if unknown == "" || !result {
		return result, nil
	}
	r.log.Warn("a Match block of ssh_config is passed over: its criterion is not supported",
		"criterion", unknown, "origin", origin)
	return false, nil
}

// subject is the text that the patterns of a criterion are compared with: as
// in ssh, what is known so far.
func (r *configReader) subject(criterion string) string {
	switch criterion {
	case "host":
		if name := r.vals.first("hostname"); name != "" {
			return strings.ReplaceAll(strings.ReplaceAll(name, "%h", r.alias), "%%", "%")
		}
	case "user":
		if name := r.vals.first("user"); name != "" {
			return name
		}
		return r.user
	case "localuser":
		return r.user
	}
	return r.alias
}

// matchPatterns reports whether s matches one of the patterns and none of the
// negated ones.
func matchPatterns(patterns []string, s string) bool {
	found := false
	for _, p := range patterns {
		if no, negated := strings.CutPrefix(p, "!"); negated {
			if wildcard(no, s) {
				return false
			}
			continue
		}
		found = found || wildcard(p, s)
	}
	return found
}

// wildcard matches s against a pattern in which * stands for any text and ? for
// one byte. It takes time proportional to the product of their lengths.
func wildcard(pattern, s string) bool {
	star, mark := -1, 0
	p, i := 0, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// splitWords splits a value as ssh does: at spaces, except inside quotes.
func splitWords(s string) []string {
	var words []string
	var word strings.Builder
	quote, inWord := byte(0), false
	for _, c := range []byte(s) {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote, inWord = c, true
		case quote == 0 && (c == ' ' || c == '\t'):
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	return slices.Clip(words)
}
