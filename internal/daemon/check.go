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

// A Fault is what Check finds.
type Fault struct {
	Key string // of the configuration, as in "users[0].authorized_keys"
	Err error
}

// Check looks at the keys that a configuration names or lists and returns
// everything that would keep the daemon, or one of its users, from working. It
// changes nothing. What config finds by itself may be among it.
func Check(c config.Server) []Fault {
	var faults []Fault
	add := func(key string, err error) { faults = append(faults, Fault{key, err}) }
	for i, path := range c.SSH.HostKeys {
		if _, err := auth.LoadHostKey(path); err != nil {
			add(fmt.Sprintf("ssh.host_keys[%d]", i), fmt.Errorf("ssh.host_keys: %w", err))
		}
	}
	if len(c.SSH.HostKeys) == 0 {
		path := filepath.Join(c.StateDir, hostKeyName)
		if _, err := auth.LoadHostKey(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			add("state_dir", fmt.Errorf("state_dir: %w", err))
		}
	}
	for i, u := range c.Users {
		key, errs := checkKeys(u)
		for _, err := range errs {
			add(fmt.Sprintf("users[%d].%s", i, key), fmt.Errorf("user %q: %w", u.Name, err))
		}
	}
	return faults
}

// checkKeys says what is wrong with the keys of u, and which key of the
// configuration has them.
func checkKeys(u config.User) (key string, errs []error) {
	file := u.AuthorizedKeysFile
	if file == "" {
		return "authorized_keys", inlineKeys(u).Problems
	}
	keys, err := auth.LoadAuthorizedKeys(file)
	switch {
	case err != nil:
		errs = []error{err}
	case keys.Len() == 0:
		errs = append(keys.Problems, fmt.Errorf("no line of %s is a key, so nobody can log in: put public keys into it, such as the id_ed25519.pub that 'transfer keygen' makes", file))
	default:
		errs = keys.Problems
	}
	return "authorized_keys_file", errs
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
