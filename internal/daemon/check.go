package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"transferd/auth"
	"transferd/config"
)

// Check looks at the files that a valid configuration names and returns
// everything that would keep the daemon, or one of its users, from working. It
// changes nothing.
func Check(c config.Server) []error {
	var faults []error
	for _, path := range c.SSH.HostKeys {
		if _, err := auth.LoadHostKey(path); err != nil {
			faults = append(faults, fmt.Errorf("ssh.host_keys: %w", err))
		}
	}
	if len(c.SSH.HostKeys) == 0 {
		path := filepath.Join(c.StateDir, hostKeyName)
		if _, err := auth.LoadHostKey(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			faults = append(faults, fmt.Errorf("state_dir: %w", err))
		}
	}
	for i, u := range c.Users {
		if err := checkKeys(u); err != nil {
			faults = append(faults, fmt.Errorf("users[%d]: %s: %w", i, u.Name, err))
		}
	}
	return faults
}

func checkKeys(u config.User) error {
	if u.AuthorizedKeysFile == "" {
		text := ""
		for _, line := range u.AuthorizedKeys {
			text += line + "\n"
		}
		return errors.Join(auth.ParseAuthorizedKeys("authorized_keys", []byte(text)).Problems...)
	}
	keys, err := auth.LoadAuthorizedKeys(u.AuthorizedKeysFile)
	if err != nil {
		return err
	}
	return errors.Join(keys.Problems...)
}

// InitOptions say what Init makes.
type InitOptions struct {
	Path     string // of the configuration file
	StateDir string // of a daemon that reads it
	Text     string // of the configuration file
	Force    bool   // replace a file that is there
}

// ErrExists says that Init would replace a file.
var ErrExists = errors.New("exists already")

// Init writes the configuration file, makes the state directory and a host key
// in it, and returns the key's fingerprint. A host key that is there stays.
func Init(o InitOptions) (fingerprint string, err error) {
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if o.Force {
		flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	if err := os.MkdirAll(filepath.Dir(o.Path), 0o750); err != nil {
		return "", fmt.Errorf("configuration: %w", err)
	}
	f, err := os.OpenFile(o.Path, flags, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("%s %w", o.Path, ErrExists)
	}
	if err != nil {
		return "", fmt.Errorf("configuration: %w", err)
	}
	_, err = f.WriteString(o.Text)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("configuration: %w", err)
	}
	if err := makeStateDir(o.StateDir); err != nil {
		return "", err
	}
	key, _, err := auth.LoadOrCreateHostKey(filepath.Join(o.StateDir, hostKeyName))
	if err != nil {
		return "", fmt.Errorf("host key: %w", err)
	}
	return auth.Fingerprint(key.PublicKey()), nil
}
