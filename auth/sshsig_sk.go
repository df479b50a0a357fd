package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"

	"golang.org/x/crypto/ssh"
)

// A Presence is what a security key says of the person at it when it signed.
// Other keys say nothing.
type Presence struct {
	Touched  bool // somebody touched it
	Verified bool // the person gave a PIN or a finger
}

// The flags of a security key's signature (OpenSSH, PROTOCOL.u2f).
const (
	flagTouched  = 0x01
	flagVerified = 0x04
)

// CheckPresence says whether p is what the grant demands of a security key; the
// error wraps ErrAuth. Of other keys it demands nothing.
func (g Grant) CheckPresence(key ssh.PublicKey, p Presence) error {
	switch {
	case !isSecurityKey(key):
		return nil
	case g.VerifyRequired && !p.Verified:
		return fmt.Errorf("%w: the security key %s signed without asking for a PIN, which verify-required demands", ErrAuth, g.Fingerprint)
	case !g.NoTouchRequired && !p.Touched:
		return fmt.Errorf("%w: the security key %s was not touched", ErrAuth, g.Fingerprint)
	}
	return nil
}

// verifySecurityKey is what key.Verify is for security keys, but that it lets
// the caller judge the flags: x/crypto shows them to nobody, and refuses what
// was not touched (OpenSSH, PROTOCOL.u2f).
func verifySecurityKey(key ssh.PublicKey, data []byte, sig *ssh.Signature) (Presence, error) {
	var tail struct {
		Flags   byte
		Counter uint32
	}
	if err := ssh.Unmarshal(sig.Rest, &tail); err != nil {
		return Presence{}, err
	}
	var application string
	var verify func(signed []byte) bool
	switch key.Type() {
	case ssh.KeyAlgoSKED25519:
		var k struct {
			Type        string
			Key         []byte
			Application string
		}
		if err := ssh.Unmarshal(key.Marshal(), &k); err != nil {
			return Presence{}, err
		}
		if len(k.Key) != ed25519.PublicKeySize {
			return Presence{}, errors.New("a key of the wrong size")
		}
		application = k.Application
		verify = func(signed []byte) bool { return ed25519.Verify(k.Key, signed, sig.Blob) }
	case ssh.KeyAlgoSKECDSA256:
		var k struct {
			Type        string
			Curve       string
			Point       []byte
			Application string
		}
		if err := ssh.Unmarshal(key.Marshal(), &k); err != nil {
			return Presence{}, err
		}
		public, ok := cryptoKey(key).(*ecdsa.PublicKey)
		if !ok {
			return Presence{}, errors.New("not an ECDSA key")
		}
		var number struct{ R, S *big.Int }
		if err := ssh.Unmarshal(sig.Blob, &number); err != nil {
			return Presence{}, err
		}
		application = k.Application
		verify = func(signed []byte) bool {
			digest := sha256.Sum256(signed)
			return ecdsa.Verify(public, digest[:], number.R, number.S)
		}
	default:
		return Presence{}, fmt.Errorf("%q is no security key", key.Type())
	}
	app, message := sha256.Sum256([]byte(application)), sha256.Sum256(data)
	signed := append(app[:], ssh.Marshal(tail)...)
	if !verify(append(signed, message[:]...)) {
		return Presence{}, errors.New("it does not verify")
	}
	return Presence{Touched: tail.Flags&flagTouched != 0, Verified: tail.Flags&flagVerified != 0}, nil
}

// cryptoKey returns key as crypto has it; nil if it does not say.
func cryptoKey(key ssh.PublicKey) any {
	if k, ok := key.(ssh.CryptoPublicKey); ok {
		return k.CryptoPublicKey()
	}
	return nil
}
