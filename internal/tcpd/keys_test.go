package tcpd

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"testing"
	"testing/synctest"

	"golang.org/x/crypto/ssh"

	"transferd/protocol"
)

// A securityKey is one in software, which nobody has touched unless flags say so.
type securityKey struct {
	public  ssh.PublicKey
	private ed25519.PrivateKey
	flags   byte
}

func newSecurityKey(t *testing.T, flags byte) *securityKey {
	t.Helper()
	pub, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := ssh.ParsePublicKey(ssh.Marshal(struct{ Type, Key, Application string }{ssh.KeyAlgoSKED25519, string(pub), "ssh:"}))
	if err != nil {
		t.Fatal(err)
	}
	return &securityKey{public, private, flags}
}

func (k *securityKey) PublicKey() ssh.PublicKey { return k.public }

func (k *securityKey) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	tail := ssh.Marshal(struct {
		Flags   byte
		Counter uint32
	}{k.flags, 1})
	application, message := sha256.Sum256([]byte("ssh:")), sha256.Sum256(data)
	signed := append(append(application[:], tail...), message[:]...)
	return &ssh.Signature{Format: ssh.KeyAlgoSKED25519, Blob: ed25519.Sign(k.private, signed), Rest: tail}, nil
}

// TestKindsOfKeys logs in with what is more than a plain key.
func TestKindsOfKeys(t *testing.T) {
	const touched, verified = 1, 4
	certificate := func(change func(*ssh.Certificate)) func(*testing.T) (ssh.Signer, string) {
		return func(t *testing.T) (ssh.Signer, string) {
			t.Helper()
			key, authority := newSigner(t), newSigner(t)
			cert := &ssh.Certificate{Key: key.PublicKey(), CertType: ssh.UserCert, ValidPrincipals: []string{"alice"}, ValidBefore: ssh.CertTimeInfinity}
			change(cert)
			if err := cert.SignCert(rand.Reader, authority); err != nil {
				t.Fatal(err)
			}
			signer, err := ssh.NewCertSigner(cert, key)
			if err != nil {
				t.Fatal(err)
			}
			return signer, "cert-authority " + authorizedLine(authority)
		}
	}
	security := func(flags byte, options string) func(*testing.T) (ssh.Signer, string) {
		return func(t *testing.T) (ssh.Signer, string) {
			t.Helper()
			key := newSecurityKey(t, flags)
			return key, options + authorizedLine(key)
		}
	}
	tests := []struct {
		name string
		make func(*testing.T) (key ssh.Signer, line string)
		want protocol.Code // 0: welcome
	}{
		{"certificate", certificate(func(*ssh.Certificate) {}), 0},
		{"certificate of another user", certificate(func(c *ssh.Certificate) { c.ValidPrincipals = []string{"bob"} }), protocol.CodeAuth},
		{"certificate of a host", certificate(func(c *ssh.Certificate) { c.CertType = ssh.HostCert }), protocol.CodeAuth},
		{"certificate that has expired", certificate(func(c *ssh.Certificate) { c.ValidBefore = 1 }), protocol.CodeAuth},
		{"certificate for elsewhere", certificate(func(c *ssh.Certificate) {
			c.CriticalOptions = map[string]string{"source-address": "198.51.100.0/24"}
		}), protocol.CodeAuth},
		{"certificate for a command", certificate(func(c *ssh.Certificate) {
			c.CriticalOptions = map[string]string{"force-command": "uptime"}
		}), protocol.CodeRestricted},
		{"security key, touched", security(touched, ""), 0},
		{"security key, not touched", security(0, ""), protocol.CodeAuth},
		{"security key that need not be touched", security(0, "no-touch-required "), 0},
		{"security key without the PIN that it needs", security(touched, "verify-required "), protocol.CodeAuth},
		{"security key with the PIN that it needs", security(touched|verified, "verify-required "), 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Limits{})
				key, line := test.make(t)
				r.lines["alice"] = line
				r.run(func() {
					p := r.dial()
					defer p.close()
					p.greet()
					m, err := p.prove("alice", key)
					if _, ok := m.(*protocol.Welcome); ok != (test.want == 0) || codeOf(m) != test.want {
						t.Errorf("answer to PROVE: %T %+v, %v; want %v\n%s", m, m, err, test.want, r.log)
					}
				})
			})
		})
	}
}
