package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// machineID names this machine and account for ever: it is in the key of every
// partial, so two machines never continue each other's copies. It is random,
// made once in dir; but as home directories are shared between machines, what
// tells those apart goes into it as well (architecture: resume, exactly).
func machineID(dir string) (string, error) {
	if dir == "" {
		return "", usagef("there is no home directory to remember copies in; set HOME or XDG_STATE_HOME")
	}
	secret, err := installationID(dir)
	if err != nil {
		return "", fmt.Errorf("remember this machine in %s: %w", dir, err)
	}
	sum := sha256.Sum256([]byte(secret + "\x00" + hardwareID()))
	return hex.EncodeToString(sum[:16]), nil
}

// installationID returns the random id in dir, making it if it is not there.
func installationID(dir string) (string, error) {
	name := filepath.Join(dir, "machine-id")
	if id, err := readID(name); !errors.Is(err, fs.ErrNotExist) {
		return id, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	id := strings.ToLower(rand.Text())
	fresh, err := os.CreateTemp(dir, "machine-id.")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.Remove(fresh.Name()) }() // after the rename there is none
	_, err = fresh.WriteString(id + "\n")
	if err := errors.Join(err, fresh.Sync(), fresh.Close()); err != nil {
		return "", err
	}
	// Not a rename: of two first runs at once the one that comes later must
	// take the other's. Where there are no hard links the rename has to do.
	err = os.Link(fresh.Name(), name)
	switch {
	case err == nil:
		return id, nil
	case errors.Is(err, fs.ErrExist):
		return readID(name)
	}
	if err := os.Rename(fresh.Name(), name); err != nil {
		return "", err
	}
	return readID(name)
}

func readID(name string) (string, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	id := strings.TrimSpace(string(data))
	if len(id) < 16 {
		return "", fmt.Errorf("%s is damaged; remove it (unfinished copies then begin anew)", name)
	}
	return id, nil
}

// hardwareID is what the system has to tell machines apart.
func hardwareID() string {
	for _, name := range []string{"/etc/machine-id", "/var/lib/dbus/machine-id"} {
		if data, err := os.ReadFile(name); err == nil && len(strings.TrimSpace(string(data))) > 0 {
			return strings.TrimSpace(string(data))
		}
	}
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}
