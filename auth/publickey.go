package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// A PublicKey is a public key or certificate with its comment, as a line of a
// .pub file.
type PublicKey struct {
	Key     ssh.PublicKey
	Comment string
}

// ParsePublicKey reads the line of a .pub file: type, base64, comment.
func ParsePublicKey(line string) (PublicKey, error) {
	kind, rest := cutWord(line)
	encoded, comment := cutWord(rest)
	if encoded == "" {
		return PublicKey{}, errors.New("not a public key")
	}
	blob, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return PublicKey{}, fmt.Errorf("read a public key: %w", err)
	}
	key, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return PublicKey{}, fmt.Errorf("read a public key: %w", err)
	}
	// Otherwise an option of authorized_keys before the key could pass for its
	// type and be lost.
	if key.Type() != kind {
		return PublicKey{}, fmt.Errorf("a public key that calls itself %q but is %q", kind, key.Type())
	}
	return PublicKey{Key: key, Comment: comment}, nil
}

// FindPublicKey finds the key in a line of a .pub file, of authorized_keys or
// of known_hosts. If the line has no comment, what stands before the key is
// taken for it, as ssh-keygen -l does.
func FindPublicKey(line string) (PublicKey, bool) {
	line = strings.Trim(line, " \t\r")
	if line == "" || line[0] == '#' {
		return PublicKey{}, false
	}
	if key, err := ParsePublicKey(line); err == nil {
		return key, true
	}
	if line[0] == '@' {
		_, line = cutWord(line)
	}
	before, rest, err := cutOptions(line)
	if err != nil {
		return PublicKey{}, false
	}
	key, err := ParsePublicKey(rest)
	if err != nil {
		return PublicKey{}, false
	}
	if key.Comment == "" {
		key.Comment = before
	}
	return key, true
}

// PublicOf returns the public key in data, the contents of a private key file,
// without its passphrase. Only OpenSSH's own format has it in clear.
func PublicOf(data []byte) (ssh.PublicKey, error) {
	key, err := ParsePrivateKey(data, nil)
	if err == nil {
		pub, err := key.Public()
		return pub.Key, err
	}
	c, ok := containerOf(data)
	if !ok {
		return nil, err
	}
	pub, err := ssh.ParsePublicKey(c.Public)
	if err != nil {
		return nil, fmt.Errorf("read the public half of a private key: %w", err)
	}
	return pub, nil
}

// String returns the line of a .pub file, without its end.
func (p PublicKey) String() string {
	line := p.Key.Type() + " " + base64.StdEncoding.EncodeToString(p.Key.Marshal())
	if p.Comment != "" {
		line += " " + p.Comment
	}
	return line
}

// Bits returns the size of the key as ssh-keygen -l tells it.
func (p PublicKey) Bits() int {
	if ck, ok := plainKey(p.Key).(ssh.CryptoPublicKey); ok {
		switch k := ck.CryptoPublicKey().(type) {
		case *rsa.PublicKey:
			return k.N.BitLen()
		case *ecdsa.PublicKey:
			return k.Curve.Params().BitSize
		}
	}
	return 256
}

// Kind returns the name that ssh-keygen -l gives to the type: ED25519, RSA-CERT.
func (p PublicKey) Kind() string { return kindOf(p.Key) }

// Fingerprint returns SHA256:… of the key, or of the key that it certifies.
func (p PublicKey) Fingerprint() string { return Fingerprint(p.Key) }

// FingerprintMD5 returns MD5:…, as older programs show it.
func (p PublicKey) FingerprintMD5() string {
	return "MD5:" + ssh.FingerprintLegacyMD5(plainKey(p.Key))
}

// Fingerprint returns SHA256:… of key, or of the key that it certifies.
func Fingerprint(key ssh.PublicKey) string { return ssh.FingerprintSHA256(plainKey(key)) }

func kindOf(key ssh.PublicKey) string {
	names := map[string]string{
		ssh.KeyAlgoED25519: "ED25519", ssh.KeyAlgoSKED25519: "ED25519-SK",
		ssh.KeyAlgoECDSA256: "ECDSA", ssh.KeyAlgoECDSA384: "ECDSA", ssh.KeyAlgoECDSA521: "ECDSA",
		ssh.KeyAlgoSKECDSA256: "ECDSA-SK", ssh.KeyAlgoRSA: "RSA", "ssh-dss": "DSA",
	}
	name, ok := names[plainType(key)]
	if !ok {
		name = plainType(key)
	}
	if _, ok := key.(*ssh.Certificate); ok {
		name += "-CERT"
	}
	return name
}

// sameKey reports whether a and b are the same key or certificate.
func sameKey(a, b ssh.PublicKey) bool { return bytes.Equal(a.Marshal(), b.Marshal()) }

// cutWord takes the first word off line, and the white space around it.
func cutWord(line string) (word, rest string) {
	line = strings.Trim(line, " \t")
	i := strings.IndexAny(line, " \t")
	if i < 0 {
		return line, ""
	}
	return line[:i], strings.TrimLeft(line[i:], " \t")
}
