package auth

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// OpenSSH's private key format (its file PROTOCOL.key). x/crypto reads and
// writes it as well, but loses the comment and cannot choose the rounds.
const (
	containerPEM   = "OPENSSH PRIVATE KEY"
	containerMagic = "openssh-key-v1\x00"

	// maxRounds bounds what a file can make us compute: some minutes.
	maxRounds = 1 << 14
)

// errLocked says that a key needs a passphrase and none was given.
var errLocked = fmt.Errorf("%w: the key has one, and none was given", ErrPassphrase)

// A container is the outside of a private key file; only Private is encrypted.
type container struct {
	Cipher, KDF, KDFOptions string
	Keys                    uint32
	Public, Private         []byte
	Tag                     []byte `ssh:"rest"` // of an AEAD cipher
}

type kdfOptions struct {
	Salt   []byte
	Rounds uint32
}

// An inner is the start of what container.Private holds.
type inner struct {
	Check1, Check2 uint32
	Type           string
	Rest           []byte `ssh:"rest"` // strings, the last of them the comment, then padding
}

func parseContainer(data []byte) (container, error) {
	var c container
	body, ok := bytes.CutPrefix(data, []byte(containerMagic))
	if !ok {
		return c, errors.New("not a key of OpenSSH")
	}
	if err := ssh.Unmarshal(body, &c); err != nil {
		return c, fmt.Errorf("read the key file: %w", err)
	}
	if c.Keys != 1 {
		return c, fmt.Errorf("the file holds %d keys, not one", c.Keys)
	}
	return c, nil
}

func (c container) locked() bool { return c.Cipher != "none" }

// open returns c with its private part in clear.
func (c container) open(passphrase []byte) (container, error) {
	if !c.locked() {
		return c, nil
	}
	if len(passphrase) == 0 {
		return c, errLocked
	}
	if c.KDF != "bcrypt" {
		return c, fmt.Errorf("unknown key derivation %q", c.KDF)
	}
	var o kdfOptions
	if err := ssh.Unmarshal([]byte(c.KDFOptions), &o); err != nil {
		return c, fmt.Errorf("read the key derivation options: %w", err)
	}
	if o.Rounds == 0 || o.Rounds > maxRounds || len(o.Salt) == 0 {
		return c, fmt.Errorf("the key derivation has %d rounds and %d bytes of salt; rounds up to %d are taken", o.Rounds, len(o.Salt), maxRounds)
	}
	clear, err := decrypt(c, passphrase, o)
	if err != nil {
		return c, err
	}
	return container{Cipher: "none", KDF: "none", Keys: 1, Public: c.Public, Private: clear}, nil
}

func decrypt(c container, passphrase []byte, o kdfOptions) ([]byte, error) {
	name, mode, _ := strings.Cut(strings.TrimSuffix(c.Cipher, "@openssh.com"), "-")
	sizes := map[string]int{"aes128": 16, "aes192": 24, "aes256": 32}
	keySize, ivSize := sizes[name], aes.BlockSize
	if mode == "gcm" {
		ivSize = 12
	}
	if keySize == 0 {
		return nil, fmt.Errorf("unknown cipher %q", c.Cipher)
	}
	if len(c.Private)%aes.BlockSize != 0 {
		return nil, errors.New("the encrypted part has an odd length")
	}
	derived, err := bcryptKDF(passphrase, o.Salt, int(o.Rounds), keySize+ivSize)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived[:keySize])
	if err != nil {
		return nil, fmt.Errorf("set up %s: %w", c.Cipher, err)
	}
	iv, clear := derived[keySize:], make([]byte, len(c.Private))
	switch mode {
	case "ctr":
		cipher.NewCTR(block, iv).XORKeyStream(clear, c.Private)
	case "cbc":
		cipher.NewCBCDecrypter(block, iv).CryptBlocks(clear, c.Private)
	case "gcm":
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, fmt.Errorf("set up %s: %w", c.Cipher, err)
		}
		clear, err = aead.Open(nil, iv, append(bytes.Clone(c.Private), c.Tag...), nil)
		if err != nil {
			return nil, ErrPassphrase
		}
	default:
		return nil, fmt.Errorf("unknown cipher %q", c.Cipher)
	}
	var in inner
	if err := ssh.Unmarshal(clear, &in); err != nil || in.Check1 != in.Check2 {
		return nil, ErrPassphrase // garbage: the key was not the right one
	}
	return clear, nil
}

// seal returns c, which is in clear, locked with passphrase.
func (c container) seal(passphrase []byte, rounds int) (container, error) {
	o := kdfOptions{Salt: make([]byte, 16), Rounds: uint32(rounds)} //nolint:gosec // MarshalPrivateKey has checked it
	_, _ = rand.Read(o.Salt)                                        // never fails
	derived, err := bcryptKDF(passphrase, o.Salt, rounds, 32+aes.BlockSize)
	if err != nil {
		return c, err
	}
	block, err := aes.NewCipher(derived[:32])
	if err != nil {
		return c, fmt.Errorf("set up aes256-ctr: %w", err)
	}
	body, err := unpad(c.Private)
	if err != nil {
		return c, err
	}
	for i := byte(1); len(body)%aes.BlockSize != 0; i++ {
		body = append(body, i)
	}
	cipher.NewCTR(block, derived[32:]).XORKeyStream(body, body)
	return container{
		Cipher: "aes256-ctr", KDF: "bcrypt", KDFOptions: string(ssh.Marshal(o)),
		Keys: 1, Public: c.Public, Private: body,
	}, nil
}

func (c container) encode() []byte {
	data := append([]byte(containerMagic), ssh.Marshal(c)...)
	return pem.EncodeToMemory(&pem.Block{Type: containerPEM, Bytes: data})
}

// comment returns the comment of a container in clear.
func (c container) comment() (string, error) {
	comment, _, err := tail(c.Private)
	return comment, err
}

// unpad returns a copy of the private part without its padding.
func unpad(private []byte) ([]byte, error) {
	_, end, err := tail(private)
	if err != nil {
		return nil, err
	}
	return bytes.Clone(private[:end]), nil
}

// tail finds the comment and the end of a private part in clear. Before the
// comment stand as many strings as the type of the key has fields.
func tail(private []byte) (comment string, end int, err error) {
	var in inner
	if err := ssh.Unmarshal(private, &in); err != nil {
		return "", 0, fmt.Errorf("read the private key: %w", err)
	}
	fields := map[string]int{
		ssh.KeyAlgoED25519:  2, // public, private
		ssh.KeyAlgoECDSA256: 3, // curve, public, d
		ssh.KeyAlgoECDSA384: 3,
		ssh.KeyAlgoECDSA521: 3,
		ssh.KeyAlgoRSA:      6, // n, e, d, iqmp, p, q
	}
	skip, ok := fields[in.Type]
	if !ok {
		return "", 0, fmt.Errorf("a private key of type %q cannot be used", in.Type)
	}
	rest, field := in.Rest, []byte(nil)
	for range skip + 1 {
		if field, rest, ok = cutString(rest); !ok {
			return "", 0, errors.New("the private key is cut short")
		}
	}
	return string(field), len(private) - len(rest), nil
}

// cutString takes a string of the SSH protocol off data.
func cutString(data []byte) (s, rest []byte, ok bool) {
	if len(data) < 4 {
		return nil, nil, false
	}
	n := int64(binary.BigEndian.Uint32(data))
	if int64(len(data))-4 < n {
		return nil, nil, false
	}
	return data[4 : 4+n], data[4+n:], true
}

// containerOf finds a key of OpenSSH's own format in the file data.
func containerOf(data []byte) (container, bool) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != containerPEM {
		return container{}, false
	}
	c, err := parseContainer(block.Bytes)
	return c, err == nil
}
