package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"transferd/auth"
)

// generate makes a key pair.
func (k *keygen) generate(ctx context.Context) error {
	if err := k.note("Generating public/private %s key pair.\n", k.kind); err != nil {
		return err
	}
	file, err := k.fileName("Enter file in which to save the key")
	if err != nil {
		return err
	}
	path := k.env.path(file)
	if err := k.makeDir(path); err != nil {
		return err
	}
	replace, err := k.mayReplace(file, path)
	if err != nil {
		return err
	}
	key, err := auth.GenerateKey(k.kind, k.bits, k.commentOr(defaultComment()))
	if err != nil {
		return keygenf(keygenFailed, "%v", err)
	}
	passphrase, err := k.newPassphrase(ctx, "Enter passphrase (empty for no passphrase): ")
	if err != nil {
		return err
	}
	err = auth.WriteKeyPair(path, key, passphrase, k.rounds, replace)
	clear(passphrase)
	if err != nil {
		return keygenf(keygenRefused, "Saving key %q failed: %v", file, err)
	}
	pub, err := key.Public()
	if err != nil {
		return keygenf(keygenFailed, "%v", err)
	}
	return k.note("Your identification has been saved in %s\nYour public key has been saved in %s.pub\nThe key fingerprint is:\n%s %s\n",
		file, file, pub.Fingerprint(), pub.Comment)
}

// note is say, unless -q.
func (k *keygen) note(format string, args ...any) error {
	if k.quiet {
		return nil
	}
	return k.say(format, args...)
}

// makeDir makes ~/.ssh if the key is to lie there; other directories must
// exist, for they may be slips of the pen.
func (k *keygen) makeDir(path string) error {
	dir := filepath.Dir(path)
	if home := k.env.home(); home == "" || dir != filepath.Join(home, ".ssh") {
		return nil
	}
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return keygenf(keygenFailed, "Could not create directory '%s': %v", dir, err)
	}
	return k.note("Created directory '%s'.\n", dir)
}

// mayReplace asks whether a key that exists may be lost.
func (k *keygen) mayReplace(file, path string) (bool, error) {
	if _, err := os.Stat(path); err != nil {
		return false, nil //nolint:nilerr // whatever it is, nothing will be replaced
	}
	if err := k.say("%s already exists.\nOverwrite (y/n)? ", file); err != nil {
		return false, err
	}
	answer, err := k.line()
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	if answer == "" || !strings.ContainsRune("yY", rune(answer[0])) {
		return false, keygenf(keygenRefused, "")
	}
	return true, nil
}

func (k *keygen) commentOr(other string) string {
	if k.comment != nil {
		return strings.ReplaceAll(*k.comment, "\n", " ") // a .pub file is one line
	}
	return other
}

// defaultComment returns user@host.
func defaultComment() string {
	name := ""
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if i := strings.LastIndexByte(name, '\\'); i >= 0 {
		name = name[i+1:] // the domain of a Windows account
	}
	host, err := os.Hostname()
	if err != nil || name == "" {
		return ""
	}
	return fmt.Sprintf("%s@%s", name, host)
}

// changePassphrase writes the private key anew, with another passphrase.
func (k *keygen) changePassphrase(ctx context.Context) error {
	file, err := k.fileName("Enter file in which the key is")
	if err != nil {
		return err
	}
	key, err := k.load(ctx, file, "Enter old passphrase: ")
	if err != nil {
		return err
	}
	if key.Comment != "" {
		if err := k.note("Key has comment '%s'\n", escape(key.Comment)); err != nil {
			return err
		}
	}
	passphrase, err := k.newPassphrase(ctx, "Enter new passphrase (empty for no passphrase): ")
	if err != nil {
		return err
	}
	err = auth.RewritePrivateKey(k.env.path(file), key, passphrase, k.rounds)
	clear(passphrase)
	if err != nil {
		return keygenf(keygenRefused, "Saving key %q failed: %v", file, err)
	}
	return k.note("Your identification has been saved with the new passphrase.\n")
}
