package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// A PrivateKey is a key in clear, with its comment.
type PrivateKey struct {
	Key     crypto.PrivateKey // ed25519.PrivateKey, *ecdsa.PrivateKey or *rsa.PrivateKey
	Comment string
}

// DefaultRounds is how hard the passphrase of a new key is to guess, as
// ssh-keygen sets it.
const DefaultRounds = 24

// maxKeyFile bounds the size of a key file; RSA with 8192 bits takes 7 KiB.
const maxKeyFile = 1 << 16

// GenerateKey makes a key. kind is ed25519, ecdsa or rsa, as for ssh-keygen -t;
// bits is 0 for the default, else a size that the kind has. ed25519 has only
// one, and ignores it.
func GenerateKey(kind string, bits int, comment string) (*PrivateKey, error) {
	var (
		key crypto.PrivateKey
		err error
	)
	switch kind {
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case "ecdsa":
		curves := map[int]elliptic.Curve{0: elliptic.P256(), 256: elliptic.P256(), 384: elliptic.P384(), 521: elliptic.P521()}
		curve := curves[bits]
		if curve == nil {
			return nil, errors.New("Invalid ECDSA key length: valid lengths are 256, 384 or 521 bits") //nolint:staticcheck // ssh-keygen's words
		}
		key, err = ecdsa.GenerateKey(curve, rand.Reader)
	case "rsa":
		if bits == 0 {
			bits = 3072
		}
		if bits < 1024 {
			return nil, errors.New("Invalid RSA key length: minimum is 1024 bits") //nolint:staticcheck // ssh-keygen's words
		}
		if bits > 8192 { // x/crypto takes no larger ones
			return nil, errors.New("Invalid RSA key length: maximum is 8192 bits") //nolint:staticcheck // ssh-keygen's words
		}
		key, err = rsa.GenerateKey(rand.Reader, bits)
	default:
		return nil, fmt.Errorf("unknown key type %s", kind)
	}
	if err != nil {
		return nil, fmt.Errorf("generate a key of type %s: %w", kind, err)
	}
	return &PrivateKey{Key: key, Comment: comment}, nil
}

// IsLocked reports whether data, the contents of a private key file, can only
// be read with a passphrase.
func IsLocked(data []byte) bool {
	_, err := ParsePrivateKey(data, nil)
	return errors.Is(err, ErrPassphrase)
}

// ParsePrivateKey reads a private key file in the formats of OpenSSH: its own,
// PEM and PKCS #8. A locked key without the right passphrase is
// ErrPassphrase; the passphrase of a key that has none is ignored.
func ParsePrivateKey(data, passphrase []byte) (*PrivateKey, error) {
	if len(data) > maxKeyFile {
		return nil, fmt.Errorf("not a private key: larger than %d bytes", maxKeyFile)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		if bytes.HasPrefix(data, []byte("PuTTY-User-Key-File-")) {
			return nil, errors.New("a key of PuTTY; puttygen -O private-openssh makes one of OpenSSH from it")
		}
		return nil, errors.New("not a private key")
	}
	comment, raw := "", pem.EncodeToMemory(block)
	var err error
	switch {
	case block.Type == containerPEM:
		c, err := parseContainer(block.Bytes)
		if err != nil {
			return nil, err
		}
		if c, err = c.open(passphrase); err != nil {
			return nil, err
		}
		if comment, err = c.comment(); err != nil {
			return nil, err
		}
		raw = c.encode()
	case block.Type == "ENCRYPTED PRIVATE KEY":
		der, err := openPKCS8(block.Bytes, passphrase)
		if err != nil {
			return nil, err
		}
		raw = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	case strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
		if len(passphrase) == 0 {
			return nil, errLocked
		}
		key, err := ssh.ParseRawPrivateKeyWithPassphrase(raw, passphrase)
		if err != nil { // a wrong one shows as any kind of garbage
			return nil, fmt.Errorf("%w: %w", ErrPassphrase, err)
		}
		return newPrivateKey(key, "")
	}
	key, err := ssh.ParseRawPrivateKey(raw)
	if err != nil {
		return nil, fmt.Errorf("read a private key: %w", err)
	}
	return newPrivateKey(key, comment)
}

func newPrivateKey(key crypto.PrivateKey, comment string) (*PrivateKey, error) {
	switch k := key.(type) {
	case *ed25519.PrivateKey:
		return &PrivateKey{Key: *k, Comment: comment}, nil
	case ed25519.PrivateKey, *ecdsa.PrivateKey, *rsa.PrivateKey:
		return &PrivateKey{Key: k, Comment: comment}, nil
	}
	return nil, fmt.Errorf("a private key of type %T cannot be used", key)
}

// Signer returns what signs with the key, never with SHA-1.
func (k *PrivateKey) Signer() (ssh.Signer, error) {
	signer, err := ssh.NewSignerFromKey(k.Key)
	if err != nil {
		return nil, fmt.Errorf("use a private key: %w", err)
	}
	return withoutSHA1(signer)
}

// Public returns the public half, with the comment.
func (k *PrivateKey) Public() (PublicKey, error) {
	signer, err := k.Signer()
	if err != nil {
		return PublicKey{}, err
	}
	return PublicKey{Key: signer.PublicKey(), Comment: k.Comment}, nil
}

// Marshal returns the key as a file of OpenSSH, locked with passphrase unless
// that is empty. rounds is 0 for DefaultRounds.
func (k *PrivateKey) Marshal(passphrase []byte, rounds int) ([]byte, error) {
	if rounds == 0 {
		rounds = DefaultRounds
	}
	if rounds < 1 || rounds > maxRounds {
		return nil, fmt.Errorf("%d rounds of key derivation; from 1 to %d can be had", rounds, maxRounds)
	}
	block, err := ssh.MarshalPrivateKey(k.Key, k.Comment)
	if err != nil {
		return nil, fmt.Errorf("write a private key: %w", err)
	}
	c, err := parseContainer(block.Bytes)
	if err != nil {
		return nil, err
	}
	if len(passphrase) > 0 {
		if c, err = c.seal(passphrase, rounds); err != nil {
			return nil, err
		}
	}
	return c.encode(), nil
}
