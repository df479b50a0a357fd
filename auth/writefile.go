package auth

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteKeyPair writes key to path, readable by its owner only, and its public
// half to path.pub. Each file is whole or absent at any moment. Without replace
// an existing private key is fs.ErrExist; path.pub is replaced in any case, for
// it only says what path holds.
func WriteKeyPair(path string, key *PrivateKey, passphrase []byte, rounds int, replace bool) error {
	pub, err := key.Public()
	if err != nil {
		return err
	}
	data, err := key.Marshal(passphrase, rounds)
	if err != nil {
		return err
	}
	if err := writeFile(path, data, 0o600, replace); err != nil {
		return err
	}
	return writeFile(path+".pub", []byte(pub.String()+"\n"), 0o644, true)
}

// RewritePrivateKey replaces the private key file at path and nothing else: how
// a passphrase is changed.
func RewritePrivateKey(path string, key *PrivateKey, passphrase []byte, rounds int) error {
	data, err := key.Marshal(passphrase, rounds)
	if err != nil {
		return err
	}
	return writeFile(path, data, 0o600, true)
}

// writeFile makes or replaces path in one step that a crash cannot split: a
// temporary file beside it, fsync, rename or link, fsync of the directory.
func writeFile(path string, data []byte, mode fs.FileMode, replace bool) (err error) {
	if target, err := filepath.EvalSymlinks(path); err == nil && replace {
		path = target // write through a symlink, do not replace it
	}
	temp := path + "." + rand.Text()
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		if e := new(fs.PathError); errors.As(err, &e) {
			err = e.Err // the name of the temporary file would puzzle
		}
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if e := os.Remove(temp); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode) // the umask may have taken more away
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if replace {
		err = os.Rename(temp, path)
	} else {
		err = publishNew(temp, path, data, mode)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

// publishNew gives temp the name path, which must be free. Where there are no
// hard links it writes path itself: a crash may then leave it cut short.
func publishNew(temp, path string, data []byte, mode fs.FileMode) error {
	err := os.Link(temp, path)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
