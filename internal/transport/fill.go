package transport

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"transferd/auth"
)

// fill turns values into settings.
func (r *resolver) fill(s *settings, vals values) error {
	f := filler{vals: vals, m: r.m}
	s.port = f.port("port", defaultPort)
	s.user = cmp.Or(vals.first("user"), r.m.user)
	f.tokens = tokens{alias: s.alias, host: s.alias, port: s.port, user: s.user, local: r.m.user, home: r.m.home}
	s.host = s.alias
	if name := vals.first("hostname"); name != "" {
		s.host = f.expand("hostname", name)
	}
	s.keyAlias = vals.first("hostkeyalias")
	f.tokens.host, f.tokens.keyAlias = s.host, cmp.Or(s.keyAlias, s.host)

	s.network = f.family()
	s.timeout = f.seconds("connecttimeout", defaultTimeout)
	if r.o.Timeout > 0 {
		s.timeout = r.o.Timeout
	}
	s.interval = f.seconds("serveraliveinterval", keepaliveInterval)
	s.unanswered = f.count("serveralivecountmax", keepaliveMax)
	s.ciphers = f.ciphers()

	s.identities = f.files("identityfile")
	if len(s.identities) == 0 && len(s.named) == 0 && r.m.home != "" {
		s.identities = auth.DefaultIdentityFiles(r.m.home)
	}
	s.certificates = f.files("certificatefile")
	s.identitiesOnly = f.yes("identitiesonly", false)
	s.agent = f.agent()
	s.pubkey = f.yes("pubkeyauthentication", true)
	s.interactive = f.yes("kbdinteractiveauthentication", true)
	s.password = f.yes("passwordauthentication", true)
	s.ask = r.o.Prompt != nil && !f.yes("batchmode", false)

	f.trust(s, r.o.KnownHosts)
	if f.err == nil && s.user == "" {
		return usage("the name of the local user is not known: write user@%s", s.alias)
	}
	if f.err == nil && badHost(s.host, true) {
		return usage("%q is no host name or address (HostName of %s)", s.host, s.alias)
	}
	return f.err
}

// filler reads values, and keeps the first error.
type filler struct {
	vals   values
	m      machine
	tokens tokens
	err    error
}

func (f *filler) fail(key string, format string, args ...any) {
	if f.err == nil {
		f.err = usage("%s: %s", f.vals[key][0].origin, fmt.Sprintf(format, args...))
	}
}

func (f *filler) port(key string, otherwise int) int {
	text := f.vals.first(key)
	if text == "" {
		return otherwise
	}
	port, err := ParsePort(text)
	if err != nil {
		f.fail(key, "%v", err)
	}
	return port
}

func (f *filler) count(key string, otherwise int) int {
	text := f.vals.first(key)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		f.fail(key, "%s %q is not a number", key, text)
	}
	return int(n)
}

func (f *filler) yes(key string, otherwise bool) bool {
	switch text := f.vals.first(key); strings.ToLower(text) {
	case "":
		return otherwise
	case "yes", "true":
		return true
	case "no", "false":
		return false
	default:
		f.fail(key, "%s %q is neither yes nor no", key, text)
		return otherwise
	}
}

// seconds reads ssh's time format: seconds, or numbers with the units s, m, h,
// d and w.
func (f *filler) seconds(key string, otherwise time.Duration) time.Duration {
	text := f.vals.first(key)
	if text == "" || strings.EqualFold(text, "none") {
		return otherwise
	}
	d, ok := parseTime(text)
	if !ok {
		f.fail(key, "%s %q is not a time, such as 10 or 1m30s", key, text)
	}
	return d
}

func parseTime(text string) (time.Duration, bool) {
	const longest = 1 << 31 // seconds
	var total int64
	for text != "" {
		end := 0
		for end < len(text) && text[end] >= '0' && text[end] <= '9' {
			end++
		}
		n, err := strconv.ParseInt(text[:end], 10, 32)
		if err != nil {
			return 0, false
		}
		unit := int64(1)
		text = text[end:]
		if text != "" {
			switch text[0] | 0x20 {
			case 's':
			case 'm':
				unit = 60
			case 'h':
				unit = 3600
			case 'd':
				unit = 24 * 3600
			case 'w':
				unit = 7 * 24 * 3600
			default:
				return 0, false
			}
			text = text[1:]
		}
		if total += n * unit; total > longest {
			return 0, false
		}
	}
	return time.Duration(total) * time.Second, true
}

func (f *filler) family() string {
	switch text := f.vals.first("addressfamily"); strings.ToLower(text) {
	case "", "any":
		return "tcp"
	case "inet":
		return "tcp4"
	case "inet6":
		return "tcp6"
	default:
		f.fail("addressfamily", "AddressFamily %q is not any, inet or inet6", text)
		return "tcp"
	}
}

func (f *filler) ciphers() []string {
	spec := f.vals.first("ciphers")
	if spec == "" {
		return nil
	}
	if origin := f.vals["ciphers"][0].origin; origin != "-c" && origin != "-o" {
		// A file is written for ssh, which has more.
		if spec = haveCiphers(spec); spec == "" {
			return nil
		}
	}
	list, err := auth.SelectCiphers(spec)
	if err != nil {
		f.fail("ciphers", "%v", err)
	}
	return list
}

// haveCiphers takes the names out of spec that are not known here. A list of
// which nothing is left stays as it is, to be refused, unless it only changes
// ssh's own.
func haveCiphers(spec string) string {
	change := ""
	if strings.ContainsRune("+-^", rune(spec[0])) {
		change = spec[:1]
	}
	have := auth.ClientAlgorithms().Ciphers
	names := slices.DeleteFunc(strings.Split(spec[len(change):], ","), func(name string) bool {
		return !slices.Contains(have, name)
	})
	switch {
	case len(names) > 0:
		return change + strings.Join(names, ",")
	case change != "":
		return ""
	}
	return spec
}

// files reads a keyword that names one file a time. "none" stands for none.
func (f *filler) files(key string) []string {
	var paths []string
	for _, v := range f.vals[key] {
		if strings.EqualFold(v.text, "none") {
			continue
		}
		paths = append(paths, f.path(key, v.text))
	}
	return paths
}

func (f *filler) agent() string {
	text := f.vals.first("identityagent")
	switch {
	case text == "", text == "SSH_AUTH_SOCK", strings.EqualFold(text, "none"):
		return text
	case text[0] == '$' && !strings.HasPrefix(text, "${"):
		return text
	}
	return f.path("identityagent", text)
}

// trust fills in which hosts are trusted. A known_hosts file named by a flag
// replaces all others.
func (f *filler) trust(s *settings, flag string) {
	switch {
	case flag != "":
		path, err := expandHome(flag, f.m)
		if err != nil && f.err == nil {
			f.err = usage("--known-hosts: %v", err)
		}
		s.knownHosts = []string{path}
	default:
		s.knownHosts = f.fileList("userknownhostsfile", filepath.Join(f.m.home, ".ssh", "known_hosts"), filepath.Join(f.m.home, ".ssh", "known_hosts2"))
		dir := filepath.Dir(f.m.system)
		s.knownHosts = append(s.knownHosts,
			f.fileList("globalknownhostsfile", filepath.Join(dir, "ssh_known_hosts"), filepath.Join(dir, "ssh_known_hosts2"))...)
	}
	s.hash = f.yes("hashknownhosts", false)
	s.policy = auth.PolicyAsk
	if text := f.vals.first("stricthostkeychecking"); text != "" {
		policy, err := auth.ParsePolicy(strings.ToLower(text))
		if err != nil {
			f.fail("stricthostkeychecking", "%v", err)
		}
		s.policy = policy
	}
	if s.policy == auth.PolicyAsk && !s.ask {
		s.policy = auth.PolicyStrict
	}
}

// fileList reads a keyword that names several files in one value.
func (f *filler) fileList(key string, otherwise ...string) []string {
	text := f.vals.first(key)
	switch {
	case text == "":
		return otherwise
	case strings.EqualFold(text, "none"):
		return nil
	}
	var paths []string
	for _, word := range splitWords(text) {
		paths = append(paths, f.path(key, word))
	}
	return paths
}

// path expands ~, ${VARIABLES} and %-tokens.
func (f *filler) path(key, text string) string {
	out, err := expandEnv(text)
	if err != nil {
		f.fail(key, "%v", err)
	}
	out = f.expand(key, out)
	if out, err = expandHome(out, f.m); err != nil {
		f.fail(key, "%v", err)
	}
	return out
}

func (f *filler) expand(key, text string) string {
	out, err := f.tokens.expand(text)
	if err != nil {
		f.fail(key, "%s %q: %v", key, text, err)
	}
	return out
}
