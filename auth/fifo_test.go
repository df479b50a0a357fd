//go:build unix

package auth

import (
	"errors"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A user who can write the directory of his keys could otherwise hold every
// login under his name for ever, of strangers too.
func TestLoadAuthorizedKeysWaitsForNobody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadAuthorizedKeys(path); !errors.Is(err, errNotRegular) {
		t.Errorf("LoadAuthorizedKeys of a FIFO: %v", err)
	}
}
