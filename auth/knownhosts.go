package auth

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // the format of known_hosts; it hides names from a glance, no more
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"

	"golang.org/x/crypto/ssh"
)

// This reads known_hosts itself: the parser of x/crypto gives the whole file
// up at the first line that it does not understand, matches names case by
// case and hashes only some of their forms, where ssh skips the line and goes on.

// maxKnownHosts bounds a known_hosts file; a line takes some 100 bytes.
const maxKnownHosts = 64 << 20

const (
	markerAuthority = "@cert-authority"
	markerRevoked   = "@revoked"
	defaultPort     = "22"
)

// A knownLine is one usable line of a known_hosts file.
type knownLine struct {
	file   string
	number int
	marker string // "", markerAuthority or markerRevoked
	hosts  string
	key    ssh.PublicKey
}

func (l knownLine) place() string { return fmt.Sprintf("%s:%d", l.file, l.number) }

func (l knownLine) hashed() bool { return strings.HasPrefix(l.hosts, "|") }

// matches reports whether the line is about name, which is a host or
// [host]:port in lower case.
func (l knownLine) matches(name string) bool {
	if l.hashed() {
		salt, hash, ok := cutHash(l.hosts)
		return ok && hmac.Equal(hash, hashName(name, salt))
	}
	return matchList(strings.Split(l.hosts, ","), name)
}

// matchesAnyPort reports whether the line is about host whatever the port: it
// names an authority, or hosts by a pattern, which is how somebody means whole
// networks. A line that names one host is about that port alone.
func (l knownLine) matchesAnyPort(host string) bool {
	return (l.marker == markerAuthority || strings.ContainsAny(l.hosts, "*?")) && l.matches(host)
}

// parseKnownHosts reads data, the contents of a known_hosts file. Like ssh it
// passes over lines that it cannot use: they trust nobody.
func parseKnownHosts(file string, data []byte) []knownLine {
	var lines []knownLine
	n := 0
	for raw := range bytes.Lines(data) {
		n++
		if l, ok := parseKnownLine(string(raw)); ok {
			l.file, l.number = file, n
			lines = append(lines, l)
		}
	}
	return lines
}

func parseKnownLine(raw string) (knownLine, bool) {
	line := strings.Trim(raw, " \t\r\n")
	if line == "" || line[0] == '#' {
		return knownLine{}, false
	}
	var l knownLine
	if line[0] == '@' {
		if l.marker, line = cutWord(line); l.marker != markerAuthority && l.marker != markerRevoked {
			return knownLine{}, false
		}
	}
	hosts, rest := cutWord(line)
	key, err := ParsePublicKey(rest)
	if err != nil || hosts == "" || hosts[0] == '@' {
		return knownLine{}, false
	}
	if _, ok := key.Key.(*ssh.Certificate); ok {
		return knownLine{}, false // trust is in its authority, by a line of its own
	}
	l.hosts, l.key = hosts, key.Key
	return l, true
}

// loadKnownHosts reads several files; those that do not exist hold nothing.
func loadKnownHosts(files []string) ([]knownLine, error) {
	var lines []knownLine
	for _, file := range files {
		data, err := readChecked(file, 0, maxKnownHosts, anyone)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("known hosts: %w", err)
		}
		lines = append(lines, parseKnownHosts(file, data)...)
	}
	return lines, nil
}

// hostNames returns the names under which known_hosts has the server at addr
// (host:port): with the port unless it is SSH's own, and without.
func hostNames(addr string) (name, host string, err error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", "", fmt.Errorf("%q is not host:port: %w", addr, err)
	}
	host = strings.ToLower(host)
	if host == "" || strings.ContainsAny(host, " \t\r\n,|*?!#@") || strings.ContainsAny(port, " \t\r\n,|*?!") {
		return "", "", fmt.Errorf("%q is no host that known_hosts can name", addr)
	}
	if port == defaultPort || port == "" {
		return host, host, nil
	}
	return "[" + host + "]:" + port, host, nil
}

// cutHash reads |1|salt|hash.
func cutHash(field string) (salt, hash []byte, ok bool) {
	parts := strings.Split(field, "|")
	if len(parts) != 4 || parts[1] != "1" {
		return nil, nil, false
	}
	salt, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(salt) != sha1.Size {
		return nil, nil, false
	}
	hash, err = base64.StdEncoding.DecodeString(parts[3])
	return salt, hash, err == nil && len(hash) == sha1.Size
}

func hashName(name string, salt []byte) []byte {
	mac := hmac.New(sha1.New, salt)
	mac.Write([]byte(name)) // never fails
	return mac.Sum(nil)
}

// newHash returns name as HashKnownHosts writes it.
func newHash(name string) string {
	salt := make([]byte, sha1.Size)
	_, _ = rand.Read(salt) // never fails
	encode := base64.StdEncoding.EncodeToString
	return "|1|" + encode(salt) + "|" + encode(hashName(name, salt))
}
