package tcpd

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/crypto/ssh"

	"transferd/auth"
	"transferd/protocol"
)

func TestLogin(t *testing.T) {
	tests := []struct {
		name    string
		options string // before alice's key
		user    string
		other   bool          // with a key that nobody knows
		offered bool          // whether OFFERED says that the key would do
		want    protocol.Code // 0: welcome
	}{
		{"right key", "", "alice", false, true, 0},
		{"wrong key", "", "alice", true, false, protocol.CodeAuth},
		{"unknown user", "", "nobody", false, false, protocol.CodeAuth},
		{"no name", "", "", false, false, protocol.CodeAuth},
		{"from= of here", `from="192.0.2.0/24" `, "alice", false, true, 0},
		{"from= of elsewhere", `from="198.51.100.0/24" `, "alice", false, false, protocol.CodeAuth},
		{"expired", `expiry-time="19990101" `, "alice", false, false, protocol.CodeAuth}, // the bubble begins in 2000
		{"not yet expired", `expiry-time="20000201" `, "alice", false, true, 0},
		{"for internal-sftp", `command="internal-sftp" `, "alice", false, true, 0},
		{"for another command", `command="uptime" `, "alice", false, true, protocol.CodeRestricted},
		{"an option that we do not know", `sudo `, "alice", false, false, protocol.CodeAuth},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Limits{})
				r.lines["alice"] = test.options + authorizedLine(r.key)
				key := r.key
				if test.other {
					key = newSigner(t)
				}
				r.run(func() {
					p := r.dial()
					defer p.close()
					if err := p.hostProved(p.greet()); err != nil {
						t.Fatalf("host: %v", err)
					}
					p.send(&protocol.Offer{User: test.user, Keys: [][]byte{[]byte("no key"), key.PublicKey().Marshal()}})
					m, _, err := p.receive()
					want := uint32(0)
					if test.offered {
						want = 1 << 1
					}
					if got, ok := m.(*protocol.Offered); !ok || got.Keys != want {
						t.Errorf("answer to OFFER: %T %+v, %v; want %b", m, m, err, want)
					}
					m, err = p.prove(test.user, key)
					if w, ok := m.(*protocol.Welcome); ok != (test.want == 0) || codeOf(m) != test.want {
						t.Errorf("answer to PROVE: %T %+v, %v; want %v\n%s", m, m, err, test.want, r.log)
					} else if ok && (w.TLSKey != r.server.certificateKey() || w.User != "alice" || w.Flags != protocol.WelcomeConfined) {
						t.Errorf("WELCOME = %+v", w)
					}
					if test.want == 0 {
						if err := p.works(1); err != nil {
							t.Error(err)
						}
						return
					}
					if r.opened != 0 {
						t.Error("a session was opened all the same")
					}
				})
				if refused := strings.Count(r.log.String(), "login refused"); refused != min(1, int(test.want)) {
					t.Errorf("the log tells of %d refusals:\n%s", refused, r.log)
				}
			})
		})
	}
}

// What a stranger sees must not tell which names exist.
func TestUnknownUserLooksLikeAWrongKey(t *testing.T) {
	try := func(t *testing.T, user string) (got []string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, Limits{})
			r.run(func() {
				p := r.dial()
				defer p.close()
				p.greet()
				key := newSigner(t)
				p.send(&protocol.Offer{User: user, Keys: [][]byte{key.PublicKey().Marshal()}})
				_, body, err := p.receive()
				got = append(got, string(body), errText(err))
				for range 7 {
					p.send(&protocol.Prove{User: user, Key: key.PublicKey().Marshal(), Signature: p.sign(key, protocol.NamespaceUser, p.userMessage(user, key.PublicKey()))})
					_, body, err := p.receive()
					got = append(got, string(body), errText(err))
				}
			})
		})
		return got
	}
	known, unknown := try(t, "alice"), try(t, "malice"[:5])
	if strings.Join(known, "|") != strings.Join(unknown, "|") {
		t.Errorf("wrong key: %q, unknown user: %q", known, unknown)
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestProofsThatAreNone are signatures that are good, and not for this.
func TestProofsThatAreNone(t *testing.T) {
	tests := map[string]func(p *peer, r *rig) (ssh.PublicKey, []byte){
		"namespace of files": func(p *peer, r *rig) (ssh.PublicKey, []byte) {
			return r.key.PublicKey(), p.sign(r.key, "file", p.userMessage("alice", r.key.PublicKey()))
		},
		"namespace of hosts": func(p *peer, r *rig) (ssh.PublicKey, []byte) {
			return r.key.PublicKey(), p.sign(r.key, protocol.NamespaceHost, p.userMessage("alice", r.key.PublicKey()))
		},
		"the host's exporter": func(p *peer, r *rig) (ssh.PublicKey, []byte) {
			script := p.script
			script.Exporter = p.exporter(protocol.LabelHost)
			return r.key.PublicKey(), p.sign(r.key, protocol.NamespaceUser, script.UserMessage("alice", r.key.PublicKey().Marshal()))
		},
		"another user's name": func(p *peer, r *rig) (ssh.PublicKey, []byte) {
			return r.key.PublicKey(), p.sign(r.key, protocol.NamespaceUser, p.userMessage("bob", r.key.PublicKey()))
		},
		"another server's key": func(p *peer, r *rig) (ssh.PublicKey, []byte) {
			p.script.HostKey = newSigner(p.t).PublicKey().Marshal()
			return r.key.PublicKey(), p.sign(r.key, protocol.NamespaceUser, p.userMessage("alice", r.key.PublicKey()))
		},
		"a stripped extension": func(p *peer, r *rig) (ssh.PublicKey, []byte) {
			stripped := p.hello
			stripped.Extensions = []protocol.Extension{{Name: "zstd"}, {Name: "more@example.com"}}
			frame, err := protocol.Append(nil, 0, &stripped)
			if err != nil {
				p.t.Fatal(err)
			}
			p.script.Hello = frame[protocol.HeaderSize:] // what the client has sent, and the server has not got
			return r.key.PublicKey(), p.sign(r.key, protocol.NamespaceUser, p.userMessage("alice", r.key.PublicKey()))
		},
		"signed by another key": func(p *peer, r *rig) (ssh.PublicKey, []byte) {
			return r.key.PublicKey(), p.sign(newSigner(p.t), protocol.NamespaceUser, p.userMessage("alice", r.key.PublicKey()))
		},
		"no signature": func(_ *peer, r *rig) (ssh.PublicKey, []byte) { return r.key.PublicKey(), nil },
		"of another connection": func(p *peer, r *rig) (ssh.PublicKey, []byte) {
			other := r.dial()
			defer other.close()
			other.hello = p.hello
			other.greet()
			other.script = p.script // all the same but the exporter
			return r.key.PublicKey(), other.sign(r.key, protocol.NamespaceUser, other.userMessage("alice", r.key.PublicKey()))
		},
	}
	for name, proof := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Limits{})
				r.run(func() {
					p := r.dial()
					defer p.close()
					p.greet()
					script := p.script
					key, signature := proof(p, r)
					if m, err := p.proveBy("alice", key, signature); codeOf(m) != protocol.CodeAuth {
						t.Errorf("answer: %T %+v, %v; want AUTH", m, m, err)
					}
					p.script = script
					if m, err := p.prove("alice", r.key); codeOf(m) != 0 || m == nil {
						t.Errorf("then the right one: %T %+v, %v", m, m, err)
					}
				})
			})
		})
	}
}

// A man in the middle has two TLS sessions, and so two exporters: he passes on
// every byte, and neither side takes the other's signature.
func TestManInTheMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, other := newRig(t, Limits{}), newRig(t, Limits{})
		r.run(func() {
			other.run(func() {
				victim, mallory := other.dial(), r.dial() // the TLS that the client sees, and the one that the server sees
				defer victim.close()
				defer mallory.close()
				proof := mallory.greet() // what the server says is passed on as it is
				victim.script = mallory.script
				if err := victim.hostProved(proof); !errors.Is(err, auth.ErrSignature) {
					t.Errorf("the client takes the host's proof: %v", err)
				}
				signature := victim.sign(r.key, protocol.NamespaceUser, victim.userMessage("alice", r.key.PublicKey()))
				if m, err := mallory.proveBy("alice", r.key.PublicKey(), signature); codeOf(m) != protocol.CodeAuth {
					t.Errorf("the server takes the user's proof: %T %+v, %v", m, m, err)
				}
			})
		})
	})
}

func TestHostKeys(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name       string
		algorithms []string
		want       string // the type of the key that is shown
		signed     string // the algorithm
	}{
		{"the server's first wins", []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoED25519}, ssh.KeyAlgoED25519, ssh.KeyAlgoED25519},
		{"a certificate for who knows them", []string{ssh.KeyAlgoED25519, ssh.CertAlgoED25519v01}, ssh.CertAlgoED25519v01, ssh.KeyAlgoED25519},
		{"rsa", []string{ssh.KeyAlgoRSASHA512}, ssh.KeyAlgoRSA, ssh.KeyAlgoRSASHA512},
		{"rsa with sha256", []string{ssh.KeyAlgoRSASHA256}, ssh.KeyAlgoRSA, ssh.KeyAlgoRSASHA256},
		{"never sha1", []string{ssh.KeyAlgoRSA}, "", ""},
		{"nothing in common", []string{ssh.KeyAlgoECDSA256}, "", ""},
		{"nothing at all", nil, "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Limits{})
				cert := &ssh.Certificate{Key: r.hostKey.PublicKey(), CertType: ssh.HostCert, ValidBefore: ssh.CertTimeInfinity}
				if err := cert.SignCert(rand.Reader, newSigner(t)); err != nil {
					t.Fatal(err)
				}
				certified, err := ssh.NewCertSigner(cert, r.hostKey)
				if err != nil {
					t.Fatal(err)
				}
				r.server.hostKeys = nil
				for _, signer := range []ssh.Signer{certified, r.hostKey, plain} {
					keys, err := newHostKey(signer)
					if err != nil {
						t.Fatal(err)
					}
					r.server.hostKeys = append(r.server.hostKeys, keys...)
				}
				r.run(func() {
					p := r.dial()
					defer p.close()
					p.hello.Algorithms = test.algorithms
					if test.want == "" {
						p.preface()
						p.send(&p.hello)
						_, _, _ = p.receive() // SERVER_HELLO
						if m, _, err := p.receive(); codeOf(m) != protocol.CodeNoHostKey {
							t.Errorf("HOST_PROOF: %T %+v, %v; want NO_HOST_KEY", m, m, err)
						}
						return
					}
					proof := p.greet()
					if err := p.hostProved(proof); err != nil {
						t.Error(err)
					}
					key, err := ssh.ParsePublicKey(proof.Key)
					if err != nil || key.Type() != test.want {
						t.Errorf("shows %v, %v; want %s", key, err, test.want)
					}
					if !strings.Contains(string(proof.Signature), test.signed) {
						t.Errorf("not signed with %s: %q", test.signed, proof.Signature)
					}
				})
			})
		})
	}
}

// A connection that ends in the middle of the handshake leaves nothing.
func TestLostInTheHandshake(t *testing.T) {
	for _, after := range []int64{0, 1, 20, 60, 150, 300, 450} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, Limits{})
			r.run(func() {
				p := r.dial()
				p.net.CutAfter(after)
				_, _ = io.WriteString(p.tls, protocol.Preface)
				p.send(&p.hello)
				for {
					if _, _, err := p.receive(); err != nil {
						break
					}
				}
				p.close()
			})
		})
	}
}
