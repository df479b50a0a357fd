package auth

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Bounds of an authorized_keys file: what a large lab needs many times over.
const (
	maxKeysFile = 4 << 20
	maxKeysLine = 64 << 10
)

// AuthorizedKeys are the keys that may log in to one account. It is immutable
// and safe for concurrent use.
type AuthorizedKeys struct {
	// Problems are the lines that cannot be used, each with its place and
	// reason, for a log.
	Problems []error

	entries []keyEntry
}

type keyEntry struct {
	source  string // file:line
	key     ssh.PublicKey
	comment string
	options keyOptions
}

// ParseAuthorizedKeys reads data, the contents of an authorized_keys file; name
// is what to call it in messages. A line that cannot be used refuses its key
// and is told in Problems; the others count.
func ParseAuthorizedKeys(name string, data []byte) *AuthorizedKeys {
	a := &AuthorizedKeys{}
	n := 0
	for line := range bytes.Lines(data) {
		n++
		entry, err := parseKeyLine(line)
		if errors.Is(err, errNoEntry) {
			continue
		}
		source := fmt.Sprintf("%s:%d", name, n)
		if err != nil {
			a.Problems = append(a.Problems, fmt.Errorf("%s: %w", source, err))
			continue
		}
		entry.source = source
		a.entries = append(a.entries, entry)
	}
	return a
}

// errNotRegular: sshd reads keys from nothing else either.
var errNotRegular = errors.New("not a regular file")

// LoadAuthorizedKeys reads the file at path. As sshd does, it refuses one that
// others can write, and waits for nobody if it is no file at all.
func LoadAuthorizedKeys(path string) (*AuthorizedKeys, error) {
	data, err := readChecked(path, openNoWait, maxKeysFile, func(path string, info fs.FileInfo) error {
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s: %w", path, errNotRegular)
		}
		return checkNotWritable(path, info)
	})
	if err != nil {
		return nil, fmt.Errorf("authorized keys: %w", err)
	}
	return ParseAuthorizedKeys(path, data), nil
}

// Len returns the number of keys that can be used.
func (a *AuthorizedKeys) Len() int { return len(a.entries) }

// errNoEntry says that a line holds nothing.
var errNoEntry = errors.New("an empty line")

func parseKeyLine(data []byte) (keyEntry, error) {
	if len(data) > maxKeysLine {
		return keyEntry{}, fmt.Errorf("a line of %d bytes; up to %d are taken", len(data), maxKeysLine)
	}
	line := strings.Trim(string(data), " \t\r\n")
	if line == "" || line[0] == '#' {
		return keyEntry{}, errNoEntry
	}
	entry := keyEntry{options: everything()}
	key, err := ParsePublicKey(line)
	if err != nil {
		options, rest, cutErr := cutOptions(line)
		if cutErr != nil {
			return keyEntry{}, cutErr
		}
		if key, err = ParsePublicKey(rest); err != nil {
			return keyEntry{}, err
		}
		if entry.options, err = parseOptions(options); err != nil {
			return keyEntry{}, err
		}
	}
	if _, ok := key.Key.(*ssh.Certificate); ok {
		return keyEntry{}, errors.New("a certificate; name the authority that signed it, with cert-authority")
	}
	entry.key, entry.comment = key.Key, key.Comment
	return entry, nil
}
