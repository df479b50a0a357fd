package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"

	"transferd/auth"
)

// showPublic prints the public half of a private key.
func (k *keygen) showPublic(ctx context.Context) error {
	file, err := k.fileName("Enter file in which the key is")
	if err != nil {
		return err
	}
	key, err := k.load(ctx, file, "Enter passphrase: ")
	if err != nil {
		return err
	}
	pub, err := key.Public()
	if err != nil {
		return keygenf(keygenFailed, "%v", err)
	}
	return k.say("%s\n", pub)
}

// maxListed bounds the files whose fingerprints are shown.
const maxListed = 64 << 20

// showFingerprints prints a line for each key in a file.
func (k *keygen) showFingerprints() error {
	file, err := k.fileName("Enter file in which the key is")
	if err != nil {
		return err
	}
	data, name, err := k.readListed(file)
	if err != nil {
		return err
	}
	if pub, err := auth.PublicOf(data); err == nil {
		return k.showFingerprint(k.withComment(auth.PublicKey{Key: pub}, file))
	} else if auth.IsLocked(data) { // PEM: only the file beside it tells
		if data, err = os.ReadFile(k.env.path(file) + ".pub"); err != nil {
			return keygenf(keygenFailed, "%s is not a public key file.", file)
		}
	}
	found := false
	for line := range strings.Lines(string(data)) {
		pub, ok := auth.FindPublicKey(strings.TrimRight(line, "\r\n"))
		if !ok {
			continue
		}
		found = true
		if err := k.showFingerprint(pub); err != nil {
			return err
		}
	}
	if !found {
		return keygenf(keygenFailed, "%s is not a public key file.", name)
	}
	return nil
}

func (k *keygen) readListed(file string) (data []byte, name string, err error) {
	in, name := io.Reader(k.stdin), "(stdin)"
	if file != "-" {
		f, err := os.Open(k.env.path(file))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, "", keygenf(keygenFailed, "transfer keygen: %s: No such file or directory", file)
		}
		if err != nil {
			return nil, "", keygenf(keygenFailed, "transfer keygen: %v", err)
		}
		defer func() { _ = f.Close() }() // only read
		in, name = f, file
	}
	data, err = io.ReadAll(io.LimitReader(in, maxListed))
	if err != nil {
		return nil, "", keygenf(keygenFailed, "transfer keygen: read %s: %v", name, err)
	}
	return data, name, nil
}

// withComment returns pub with the comment that the file beside the private key
// gives it.
func (k *keygen) withComment(pub auth.PublicKey, file string) auth.PublicKey {
	data, err := os.ReadFile(k.env.path(file) + ".pub")
	if err != nil {
		return pub
	}
	if beside, ok := auth.FindPublicKey(strings.TrimSpace(string(data))); ok && beside.Fingerprint() == pub.Fingerprint() {
		return beside
	}
	return pub
}

func (k *keygen) showFingerprint(pub auth.PublicKey) error {
	fingerprint, comment := pub.Fingerprint(), pub.Comment
	if k.hash == "md5" {
		fingerprint = pub.FingerprintMD5()
	}
	if comment == "" {
		comment = "no comment"
	}
	return k.say("%d %s %s (%s)\n", pub.Bits(), fingerprint, escape(comment), pub.Kind())
}
