package auth

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"
)

// remember appends the key of the host name to a known_hosts file, which it
// makes if need be, as ssh does: one line in one write, on a line of its own
// even if the last one lacks its end. Processes that do so at once wait for
// each other, and a key that is there by now is not written again.
func remember(file, name string, key ssh.PublicKey, hash bool) (err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("remember the host key: %w", err)
	}
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("remember the host key: %w", err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = fmt.Errorf("remember the host key in %s: %w", file, err)
		}
	}()
	if err := lockFile(f); err != nil {
		return err
	}
	have, err := readAtMost(f, file, maxKnownHosts)
	if err != nil {
		return err
	}
	for _, l := range parseKnownHosts(file, have) {
		if l.marker == "" && l.matches(name) && sameKey(l.key, key) {
			return nil
		}
	}
	shown := name
	if hash {
		shown = newHash(name)
	}
	line := shown + " " + PublicKey{Key: key}.String() + "\n"
	if n := len(have); n > 0 && have[n-1] != '\n' {
		line = "\n" + line
	}
	_, err = io.WriteString(f, line)
	return err
}
