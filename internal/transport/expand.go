package transport

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// tokens are what the %-letters of ssh_config stand for.
type tokens struct {
	alias    string // %n
	host     string // %h
	keyAlias string // %k
	port     int    // %p
	user     string // %r
	local    string // %u
	home     string // %d
}

// expand replaces the tokens in text. A letter that ssh does not know, or that
// means nothing here, is an error.
func (t tokens) expand(text string) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "%")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		if rest == "" {
			return "", fmt.Errorf("it ends in %%; write %%%% for the percent sign itself")
		}
		switch rest[0] {
		case '%':
			b.WriteByte('%')
		case 'h':
			b.WriteString(t.host)
		case 'k':
			b.WriteString(t.keyAlias)
		case 'n':
			b.WriteString(t.alias)
		case 'p':
			b.WriteString(strconv.Itoa(t.port))
		case 'r':
			b.WriteString(t.user)
		case 'u':
			b.WriteString(t.local)
		case 'd':
			b.WriteString(t.home)
		case 'i':
			b.WriteString(strconv.Itoa(os.Getuid()))
		case 'l', 'L':
			name, err := os.Hostname()
			if err != nil {
				return "", fmt.Errorf("%%%c: %w", rest[0], err)
			}
			if rest[0] == 'L' {
				name, _, _ = strings.Cut(name, ".")
			}
			b.WriteString(name)
		default:
			return "", fmt.Errorf("%%%c is not supported; there are %%%% %%d %%h %%i %%k %%L %%l %%n %%p %%r %%u", rest[0])
		}
		text = rest[1:]
	}
}

// expandEnv replaces ${NAME} by the environment's NAME. As in ssh one that is
// not set is an error, because the path without it would be another one.
func expandEnv(text string) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "${")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return "", fmt.Errorf("%q: ${ has no }", text)
		}
		val, set := os.LookupEnv(name)
		if !set {
			return "", fmt.Errorf("%q: the environment has no %s", text, name)
		}
		b.WriteString(val)
		text = after
	}
}

// expandHome replaces ~ and ~user at the start of path.
func expandHome(path string, m machine) (string, error) {
	rest, ok := strings.CutPrefix(path, "~")
	if !ok {
		return path, nil
	}
	name, below, _ := strings.Cut(filepath.ToSlash(rest), "/")
	home := m.home
	if name != "" {
		u, err := user.Lookup(name)
		if err != nil {
			return "", fmt.Errorf("%s: %w", path, err)
		}
		home = u.HomeDir
	}
	if home == "" {
		return "", fmt.Errorf("%s: the home directory is not known: set HOME", path)
	}
	return filepath.Join(home, below), nil
}
