package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"math/big"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// A securityKey is one in software: it says of the person what it is told.
type securityKey struct {
	public      ssh.PublicKey
	application string
	flags       byte
	sign        func(data []byte) ([]byte, error)
}

func newSecurityKey(t testing.TB, kind string, flags byte) *securityKey {
	t.Helper()
	k := &securityKey{application: "ssh:", flags: flags}
	var public []byte
	if kind == ssh.KeyAlgoSKED25519 {
		pub, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		public = ssh.Marshal(struct {
			Type, Key, Application string
		}{kind, string(pub), k.application})
		k.sign = func(data []byte) ([]byte, error) { return ed25519.Sign(private, data), nil }
	} else {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		point, err := private.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		public = ssh.Marshal(struct {
			Type, Curve, Point, Application string
		}{kind, "nistp256", string(point), k.application})
		k.sign = func(data []byte) ([]byte, error) {
			digest := sha256.Sum256(data)
			r, s, err := ecdsa.Sign(rand.Reader, private, digest[:])
			return ssh.Marshal(struct{ R, S *big.Int }{r, s}), err
		}
	}
	var err error
	if k.public, err = ssh.ParsePublicKey(public); err != nil {
		t.Fatal(err)
	}
	return k
}

func (k *securityKey) PublicKey() ssh.PublicKey { return k.public }

func (k *securityKey) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	tail := ssh.Marshal(struct {
		Flags   byte
		Counter uint32
	}{k.flags, 7})
	app, message := sha256.Sum256([]byte(k.application)), sha256.Sum256(data)
	blob, err := k.sign(append(append(app[:], tail...), message[:]...))
	return &ssh.Signature{Format: k.public.Type(), Blob: blob, Rest: tail}, err
}

func TestSecurityKeys(t *testing.T) {
	const both = flagTouched | flagVerified
	for _, c := range []struct {
		name    string
		options string
		flags   byte
		ok      bool
	}{
		{"touched", "", flagTouched, true},
		{"touched and verified", "", both, true},
		{"not touched", "", 0, false},
		{"verified, not touched", "", flagVerified, false},
		{"not touched, and need not", "no-touch-required ", 0, true},
		{"touched, and need not", "no-touch-required ", flagTouched, true},
		{"verified, as it must", "verify-required ", both, true},
		{"not verified, and must", "verify-required ", flagTouched, false},
		{"verified, not touched, must both", "verify-required ", flagVerified, false},
		{"verified, must, need no touch", "verify-required,no-touch-required ", flagVerified, true},
		{"not verified, must, need no touch", "verify-required,no-touch-required ", flagTouched, false},
	} {
		for _, kind := range []string{ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256} {
			t.Run(c.name+", "+kind, func(t *testing.T) {
				key := newSecurityKey(t, kind, c.flags)
				sig, err := SignMessage(key, testNamespace, []byte("message"))
				if err != nil {
					t.Fatal(err)
				}
				presence, err := VerifyMessage(key.public, testNamespace, []byte("message"), sig)
				if want := (Presence{c.flags&flagTouched != 0, c.flags&flagVerified != 0}); err != nil || presence != want {
					t.Fatalf("VerifyMessage = %+v, %v, want %+v", presence, err, want)
				}
				keys := ParseAuthorizedKeys("keys", []byte(c.options+PublicKey{Key: key.public}.String()+"\n"))
				grant, err := keys.Authorize(LoginRequest{User: "u", Key: key.public, Remote: netip.MustParseAddr("10.0.0.7"), Now: time.Now(), SeesPresence: true})
				if err != nil {
					t.Fatal(err)
				}
				if err := grant.CheckPresence(key.public, presence); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrAuth) {
					t.Errorf("CheckPresence = %v, want it to pass: %t", err, c.ok)
				}
				for i := range sig {
					sig[i] ^= 0x80
					if _, err := VerifyMessage(key.public, testNamespace, []byte("message"), sig); !errors.Is(err, ErrSignature) {
						t.Errorf("byte %d flipped: %v", i, err)
					}
					sig[i] ^= 0x80
				}
			})
		}
	}
}

// A certificate may leave out the touch only together with its authority's
// line, and may demand the PIN alone.
func TestSecurityKeyCertificates(t *testing.T) {
	_, ca, caPub := newKey(t, "")
	for _, c := range []struct {
		name, options      string
		noTouch, verify    bool
		needsTouch, needID bool
	}{
		{"nothing said", "", false, false, true, false},
		{"the certificate alone", "", true, false, true, false},
		{"the line alone", ",no-touch-required", false, false, true, false},
		{"both", ",no-touch-required", true, false, false, false},
		{"the certificate wants a PIN", "", false, true, true, true},
		{"the line wants a PIN", ",verify-required", false, false, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			key := newSecurityKey(t, ssh.KeyAlgoSKED25519, 0)
			cert := &ssh.Certificate{Key: key.public, CertType: ssh.UserCert, ValidPrincipals: []string{"u"}, ValidBefore: ssh.CertTimeInfinity}
			if c.noTouch {
				cert.Extensions = map[string]string{"no-touch-required": ""}
			}
			if c.verify {
				cert.CriticalOptions = map[string]string{"verify-required": ""}
			}
			if err := cert.SignCert(rand.Reader, ca); err != nil {
				t.Fatal(err)
			}
			keys := ParseAuthorizedKeys("keys", []byte("cert-authority"+c.options+" "+caPub.String()+"\n"))
			grant, err := keys.Authorize(LoginRequest{User: "u", Key: cert, Remote: netip.MustParseAddr("10.0.0.7"), Now: time.Now(), SeesPresence: true})
			if err != nil {
				t.Fatal(err)
			}
			if grant.NoTouchRequired == c.needsTouch || grant.VerifyRequired != c.needID {
				t.Errorf("no touch: %t, PIN: %t; want %t, %t", grant.NoTouchRequired, grant.VerifyRequired, !c.needsTouch, c.needID)
			}
		})
	}
}
