package native

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"transferd/protocol"
)

// A fakeGate knows one user with one key. What it calls a signature is the
// SHA-256 of what would be signed.
type fakeGate struct {
	open func(ctx context.Context) (Guest, error)

	mu     sync.Mutex
	offers []int // numbers of keys
}

var errGate = errors.New("the gate is broken: /etc/secret")

func (g *fakeGate) Proof(_ context.Context, algorithms []string, message func([]byte) []byte) (key, signature []byte, err error) {
	if !slices.Contains(algorithms, "ssh-ed25519") {
		return nil, nil, &Refusal{Code: protocol.CodeNoHostKey, Message: "no host key of these algorithms"}
	}
	key = []byte("host key")
	sum := sha256.Sum256(message(key))
	return key, sum[:], nil
}

func (g *fakeGate) Offer(_ context.Context, user string, keys [][]byte) (uint32, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.offers = append(g.offers, len(keys))
	var bits uint32
	for i, k := range keys {
		if user == "ann" && string(k) == "ann's key" {
			bits |= 1 << i
		}
	}
	return bits | 1<<31, nil // a gate that says too much is not passed on
}

func (g *fakeGate) Prove(ctx context.Context, user string, key, signature, message []byte) (Guest, error) {
	sum := sha256.Sum256(message)
	switch {
	case string(key) == "poison":
		return Guest{}, errGate
	case user != "ann", string(key) != "ann's key", !slices.Equal(signature, sum[:]):
		return Guest{}, &Refusal{Code: protocol.CodeAuth, Message: "not with this user and key", Err: errors.New("bad key")}
	}
	return g.open(ctx)
}

// selfSigned is a certificate as the daemon makes it.
func selfSigned(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// dialTLS is dial over TLS.
func (r *rig) dialTLS(cert tls.Certificate) (*raw, *tls.Conn) {
	r.t.Helper()
	var client *tls.Conn
	c := r.dial(func(st *Stream) {
		server := tls.Server(st.ReadWriteCloser.(net.Conn), &tls.Config{
			Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, NextProtos: []string{protocol.ALPN},
		})
		st.ReadWriteCloser = server
		st.Transport, st.Binding, st.Bound = "tcp", protocol.BindingTLS, nil
		st.Exporter = exporterOf(server)
	})
	client = tls.Client(c.conn, &tls.Config{
		InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: []string{protocol.ALPN},
	})
	if err := client.HandshakeContext(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	c.w, c.r, c.frames = client, client, protocol.NewReader(client, protocol.MaxFrame)
	return c, client
}

func exporterOf(c *tls.Conn) func(label string) ([]byte, error) {
	return func(label string) ([]byte, error) {
		if err := c.Handshake(); err != nil {
			return nil, err
		}
		state := c.ConnectionState()
		return state.ExportKeyingMaterial(label, nil, protocol.ExporterSize)
	}
}

// script is the transcript of c's handshake as the client knows it.
func (c *raw) script(conn *tls.Conn, label string) protocol.Transcript {
	c.t.Helper()
	exporter, err := exporterOf(conn)(label)
	if err != nil {
		c.t.Fatal(err)
	}
	return protocol.Transcript{Hello: c.hello, ServerHello: c.server, Exporter: exporter, HostKey: []byte("host key")}
}

func (c *raw) prove(conn *tls.Conn, user, key string) *protocol.Prove {
	c.t.Helper()
	sum := sha256.Sum256(c.script(conn, protocol.LabelUser).UserMessage(user, []byte(key)))
	return &protocol.Prove{User: user, Key: []byte(key), Signature: sum[:]}
}

func newGateRig(t *testing.T) (*rig, *fakeGate, tls.Certificate) {
	t.Helper()
	r := newRig(t, ServerConfig{TLSKey: [32]byte{7}, TCPPort: func() uint16 { return 2023 }})
	gate := &fakeGate{open: r.open}
	r.o = ServeOptions{Gate: gate}
	return r, gate, selfSigned(t)
}

func TestLoginOverTLS(t *testing.T) {
	r, _, cert := newGateRig(t)
	c, conn := r.dialTLS(cert)
	c.sayHello(&protocol.Hello{Algorithms: []string{"ssh-rsa", "ssh-ed25519"}})
	proof := want[*protocol.HostProof](c, 0)
	wanted := sha256.Sum256(c.script(conn, protocol.LabelHost).HostMessage())
	if !slices.Equal(proof.Signature, wanted[:]) {
		t.Error("the host has signed something else")
	}
	keys := [][]byte{[]byte("other"), []byte("ann's key")}
	if m := ask[*protocol.Offered](c, 0, &protocol.Offer{User: "ann", Keys: keys}); m.Keys != 2 {
		t.Errorf("OFFERED %b, want 10", m.Keys)
	}
	if m := ask[*protocol.Offered](c, 0, &protocol.Offer{User: "bob", Keys: keys}); m.Keys != 0 {
		t.Errorf("OFFERED %b for an unknown user", m.Keys)
	}
	c.fails(0, c.prove(conn, "ann", "other"), protocol.CodeAuth)
	c.fails(0, c.prove(conn, "bob", "ann's key"), protocol.CodeAuth)
	elsewhere := c.prove(conn, "ann", "ann's key")
	elsewhere.Signature[0] ^= 1
	c.fails(0, elsewhere, protocol.CodeAuth)
	c.welcome = ask[*protocol.Welcome](c, 0, c.prove(conn, "ann", "ann's key"))
	if c.welcome.TCPPort != 2023 || c.welcome.TLSKey != [32]byte{7} || c.welcome.Binding != protocol.BindingNone {
		t.Errorf("WELCOME %+v", c.welcome)
	}
	ask[*protocol.Found](c, 1, &protocol.Stat{Place: at(".")})

	j, jconn := r.dialTLS(cert)
	exporter, err := exporterOf(jconn)(protocol.LabelJoin)
	if err != nil {
		t.Fatal(err)
	}
	j.preface()
	ask[*protocol.Joined](j, 0, c.ticket(1, protocol.BindingTLS, exporter))
	ask[*protocol.Found](j, 2, &protocol.Stat{Place: at(".")})
	again, _ := r.dialTLS(cert)
	again.preface()
	again.send(0, c.ticket(2, protocol.BindingTLS, exporter)) // a man in the middle has an exporter of his own
	again.wantEnd(protocol.CodeJoin)
	j.bye()
	c.bye()
}

func TestRefusedLogins(t *testing.T) {
	ed := &protocol.Hello{Algorithms: []string{"ssh-ed25519"}}
	for _, test := range []struct {
		name  string
		hello *protocol.Hello
		do    func(c *raw, conn *tls.Conn)
		want  protocol.Code
	}{
		{"no host key", &protocol.Hello{}, func(*raw, *tls.Conn) {}, protocol.CodeNoHostKey},
		{"a request before WELCOME", ed, func(c *raw, _ *tls.Conn) {
			want[*protocol.HostProof](c, 0)
			c.send(1, &protocol.Stat{Place: at(".")})
		}, protocol.CodeBadState},
		{"a gate that breaks", ed, func(c *raw, conn *tls.Conn) {
			want[*protocol.HostProof](c, 0)
			c.send(0, c.prove(conn, "ann", "poison"))
		}, protocol.CodeFailure},
		{"too many proofs", ed, func(c *raw, conn *tls.Conn) {
			want[*protocol.HostProof](c, 0)
			for range maxProofs {
				c.fails(0, c.prove(conn, "ann", "other"), protocol.CodeAuth)
			}
		}, protocol.CodeAuth},
		{"too many keys", ed, func(c *raw, _ *tls.Conn) {
			want[*protocol.HostProof](c, 0)
			keys := slices.Repeat([][]byte{[]byte("k")}, protocol.MaxKeys)
			for range maxOffered / len(keys) {
				ask[*protocol.Offered](c, 0, &protocol.Offer{User: "ann", Keys: keys})
			}
			c.send(0, &protocol.Offer{User: "ann"})
		}, protocol.CodeLimit},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, _, cert := newGateRig(t)
			c, conn := r.dialTLS(cert)
			hello := *test.hello
			c.sayHello(&hello)
			test.do(c, conn)
			c.wantEnd(test.want)
			if err := <-c.ended; err == nil {
				t.Error("Serve = nil")
			}
		})
	}
}

func TestAHandshakeOverTLSEndsWithItsContext(t *testing.T) {
	r, _, cert := newGateRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	r.ctx = ctx
	c, _ := r.dialTLS(cert)
	c.sayHello(&protocol.Hello{Algorithms: []string{"ssh-ed25519"}})
	want[*protocol.HostProof](c, 0)
	cancel()
	if err := <-c.ended; err == nil {
		t.Error("Serve = nil")
	}
}
