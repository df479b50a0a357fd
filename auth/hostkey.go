package auth

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"
)

// LoadHostKey reads a server's private key. It must not have a passphrase, and
// nobody else may be able to read it.
func LoadHostKey(path string) (ssh.Signer, error) {
	data, err := ReadPrivateKeyFile(path)
	if err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	key, err := ParsePrivateKey(data, nil)
	if errors.Is(err, ErrPassphrase) {
		return nil, fmt.Errorf("host key %s: %w; a server has nobody to ask, so take it away with transfer keygen -p -f %s", path, err, path)
	}
	if err != nil {
		return nil, fmt.Errorf("host key %s: %w", path, err)
	}
	signer, err := key.Signer()
	if err != nil {
		return nil, fmt.Errorf("host key %s: %w", path, err)
	}
	return signer, nil
}

// LoadOrCreateHostKey reads the key at path, or makes an ed25519 key there, and
// its directory, if there is none; created says so. Of several processes that
// do this at once all get the same key.
func LoadOrCreateHostKey(path string) (key ssh.Signer, created bool, err error) {
	key, err = LoadHostKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, false, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, false, fmt.Errorf("host key: %w", err)
	}
	fresh, err := GenerateKey("ed25519", 0, "transferd host key")
	if err != nil {
		return nil, false, fmt.Errorf("host key: %w", err)
	}
	err = WriteKeyPair(path, fresh, nil, 0, false)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, false, fmt.Errorf("host key: %w", err)
	}
	created = err == nil
	key, err = LoadHostKey(path) // what is on the disk is what clients will see again
	return key, created, err
}

// ReadPrivateKeyFile reads the private key file at path, for ParsePrivateKey.
// Like ssh it refuses one that others can read.
func ReadPrivateKeyFile(path string) ([]byte, error) {
	return readChecked(path, 0, maxKeyFile, checkPrivate)
}

// readChecked reads the file at path, opened with flags, if check accepts it
// and it has at most limit bytes.
func readChecked(path string, flags int, limit int64, check func(string, fs.FileInfo) error) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|flags, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := check(path, info); err != nil {
		return nil, err
	}
	return readAtMost(f, path, limit)
}

// readAtMost reads r to its end, which must come within limit bytes.
func readAtMost(r io.Reader, name string, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return data, nil
}

// anyone accepts every file.
func anyone(string, fs.FileInfo) error { return nil }
