package tcpd

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"transferd/auth"
	"transferd/internal/session"
	"transferd/internal/testnet"
	"transferd/internal/transport/native"
	"transferd/internal/tree"
	"transferd/protocol"
)

// A rig is a server on an in-memory listener, with one user, alice, whose key is
// key. It is made inside a synctest bubble, which waits for all of it.
type rig struct {
	t        *testing.T
	server   *Server
	native   *native.Server
	listener *testnet.Listener
	hostKey  ssh.Signer
	key      ssh.Signer
	log      *logBuffer

	mu     sync.Mutex
	lines  map[string]string // authorized_keys by user
	opened int
	closed int
}

func newRig(t *testing.T, limits Limits) *rig {
	t.Helper()
	r := &rig{t: t, listener: testnet.Listen(), hostKey: newSigner(t), key: newSigner(t), log: &logBuffer{}}
	r.lines = map[string]string{"alice": authorizedLine(r.key)}
	log := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	certificate, err := NewCertificate()
	if err != nil {
		t.Fatal(err)
	}
	r.native = native.NewServer(native.ServerConfig{
		Software:    "test",
		Log:         log,
		TLSKey:      certificate.TLSKey(),
		TCPPort:     func() uint16 { return 2023 },
		IdleTimeout: func() time.Duration { return 0 },
	})
	r.server, err = New(Config{
		HostKeys: []ssh.Signer{r.hostKey}, Accounts: r, Limits: limits, Log: log, Native: r.native, Certificate: certificate,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// run serves while f runs, then shuts down.
func (r *rig) run(f func()) {
	r.t.Helper()
	served := make(chan error, 1)
	go func() { served <- r.server.Serve(context.Background(), r.listener) }()
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(r.native.Shutdown(ctx), r.server.Shutdown(ctx)); err != nil {
			r.t.Errorf("Shutdown: %v", err)
		}
		if err := <-served; err != nil {
			r.t.Errorf("Serve: %v", err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.opened != r.closed {
			r.t.Errorf("%d sessions opened, %d closed", r.opened, r.closed)
		}
		if n := r.server.pool.Len(); n != 0 {
			r.t.Errorf("%d places are still taken", n)
		}
		if strings.Contains(r.log.String(), "panic") {
			r.t.Errorf("something panicked:\n%s", r.log)
		}
	}()
	f()
}

// Keys implements Accounts.
func (r *rig) Keys(_ context.Context, user string) (*auth.AuthorizedKeys, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines, ok := r.lines[user]
	if !ok {
		return nil, fmt.Errorf("%w: no such user", auth.ErrAuth)
	}
	return auth.ParseAuthorizedKeys("keys", []byte(lines)), nil
}

// Open implements Accounts.
func (r *rig) Open(context.Context, Login) (*session.Session, func() error, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opened++
	return session.New(fakeTree{}, session.Login{User: "alice", Permissions: session.All}), func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.closed++
		return nil
	}, nil
}

// A fakeTree has one file, "file". Everything but Lstat panics, which no test
// does.
type fakeTree struct{ tree.FS }

func (fakeTree) Lstat(_ context.Context, p tree.Path) (tree.Entry, error) {
	if p != "file" {
		return tree.Entry{}, fmt.Errorf("lstat %s: %w", p, fs.ErrNotExist)
	}
	return tree.Entry{Name: "file", Kind: tree.KindFile, Size: 3}, nil
}

// A peer is a client made by hand, which can be wrong in every step.
type peer struct {
	t      *testing.T
	net    *testnet.Conn
	tls    *tls.Conn
	frames *protocol.Reader
	hello  protocol.Hello
	script protocol.Transcript

	once   sync.Once
	closed chan struct{}
	alive  sync.WaitGroup
}

// clientTLS is what a client asks for that keeps to the protocol.
func clientTLS() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{protocol.ALPN},
		InsecureSkipVerify: true,
	}
}

// dial brings a peer behind TLS.
func (r *rig) dial() *peer {
	r.t.Helper()
	return r.dialFrom("192.0.2.1")
}

func (r *rig) dialFrom(ip string) *peer {
	r.t.Helper()
	conn, err := r.listener.DialFrom(context.Background(), ip)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.over(conn, conn)
}

// over brings a peer behind TLS on conn, whose faults are those of wire.
func (r *rig) over(conn net.Conn, wire *testnet.Conn) *peer {
	r.t.Helper()
	p := &peer{t: r.t, net: wire, tls: tls.Client(conn, clientTLS()), closed: make(chan struct{})}
	if err := p.tls.Handshake(); err != nil {
		r.t.Fatalf("TLS: %v", err)
	}
	p.frames = protocol.NewReader(p.tls, protocol.MaxFrame)
	p.hello = protocol.Hello{
		MinVersion: 1, MaxVersion: 1, MaxData: protocol.MaxData, Software: "test",
		Algorithms: []string{ssh.KeyAlgoED25519}, Extensions: []protocol.Extension{{Name: "zstd"}},
	}
	return p
}

func (p *peer) close() {
	p.once.Do(func() { close(p.closed) })
	_ = p.tls.Close()
	p.alive.Wait()
}

// send sends m with id 0.
func (p *peer) send(m protocol.Message) []byte {
	p.t.Helper()
	return p.request(0, m)
}

func (p *peer) request(id uint64, m protocol.Message) []byte {
	p.t.Helper()
	frame, err := protocol.Append(nil, id, m)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.tls.Write(frame); err != nil {
		p.t.Logf("send: %v", err) // the answer tells
	}
	return frame[protocol.HeaderSize:]
}

// receive returns the next message that is not PING, and its body.
func (p *peer) receive() (protocol.Message, []byte, error) {
	for {
		h, err := p.frames.Next()
		if err != nil {
			return nil, nil, err
		}
		body, err := p.frames.Body(nil)
		if err != nil {
			return nil, nil, err
		}
		m, err := protocol.Decode(h.Type, body)
		if _, ok := m.(*protocol.Ping); !ok || err != nil {
			return m, body, err
		}
	}
}

// preface exchanges those.
func (p *peer) preface() {
	p.t.Helper()
	if _, err := io.WriteString(p.tls, protocol.Preface); err != nil {
		p.t.Fatal(err)
	}
	got := make([]byte, len(protocol.Preface))
	if _, err := io.ReadFull(p.tls, got); err != nil || string(got) != protocol.Preface {
		p.t.Fatalf("preface %q, %v", got, err)
	}
}

func (p *peer) exporter(label string) []byte {
	p.t.Helper()
	state := p.tls.ConnectionState()
	out, err := state.ExportKeyingMaterial(label, nil, protocol.ExporterSize)
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

// greet goes on until the host has shown its key, and returns how that was
// signed.
func (p *peer) greet() *protocol.HostProof {
	p.t.Helper()
	p.preface()
	p.script.Hello = p.send(&p.hello)
	m, body, err := p.receive()
	if _, ok := m.(*protocol.ServerHello); !ok || err != nil {
		p.t.Fatalf("answer to HELLO: %T, %v", m, err)
	}
	p.script.ServerHello = body
	m, _, err = p.receive()
	proof, ok := m.(*protocol.HostProof)
	if !ok || err != nil {
		p.t.Fatalf("after SERVER_HELLO: %T %+v, %v", m, m, err)
	}
	p.script.HostKey = proof.Key
	return proof
}

// hostProved reports why the host has not proved its key.
func (p *peer) hostProved(proof *protocol.HostProof) error {
	key, err := ssh.ParsePublicKey(proof.Key)
	if err != nil {
		return err
	}
	script := p.script
	script.Exporter = p.exporter(protocol.LabelHost)
	_, err = auth.VerifyMessage(key, protocol.NamespaceHost, script.HostMessage(), proof.Signature)
	return err
}

// userMessage is what user signs with key.
func (p *peer) userMessage(user string, key ssh.PublicKey) []byte {
	p.t.Helper()
	script := p.script
	script.Exporter = p.exporter(protocol.LabelUser)
	return script.UserMessage(user, key.Marshal())
}

// prove gives a proof, and returns the answer.
func (p *peer) prove(user string, key ssh.Signer) (protocol.Message, error) {
	p.t.Helper()
	return p.proveBy(user, key.PublicKey(), p.sign(key, protocol.NamespaceUser, p.userMessage(user, key.PublicKey())))
}

func (p *peer) sign(key ssh.Signer, namespace string, message []byte) []byte {
	p.t.Helper()
	signature, err := auth.SignMessage(key, namespace, message)
	if err != nil {
		p.t.Fatal(err)
	}
	return signature
}

func (p *peer) proveBy(user string, key ssh.PublicKey, signature []byte) (protocol.Message, error) {
	p.t.Helper()
	p.send(&protocol.Prove{User: user, Key: key.Marshal(), Signature: signature})
	m, _, err := p.receive()
	return m, err
}

// login brings a peer into a session of alice.
func (r *rig) login() (*peer, *protocol.Welcome) {
	r.t.Helper()
	p := r.dial()
	return p, p.login(r.key)
}

func (p *peer) login(key ssh.Signer) *protocol.Welcome {
	p.t.Helper()
	if err := p.hostProved(p.greet()); err != nil {
		p.t.Fatalf("host: %v", err)
	}
	m, err := p.prove("alice", key)
	w, ok := m.(*protocol.Welcome)
	if !ok {
		p.t.Fatalf("answer to PROVE: %T %+v, %v", m, m, err)
	}
	return w
}

// works reports whether the session on p answers.
func (p *peer) works(id uint64) error {
	p.t.Helper()
	p.request(id, &protocol.Stat{Place: protocol.Place{Path: "file"}})
	m, _, err := p.receive()
	if _, ok := m.(*protocol.Found); !ok || err != nil {
		return fmt.Errorf("answer to STAT: %T %+v, %w", m, m, err)
	}
	return nil
}

// A logBuffer keeps the log.
type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func newSigner(t *testing.T) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func authorizedLine(key ssh.Signer) string { return string(ssh.MarshalAuthorizedKey(key.PublicKey())) }

// codeOf is the code of a FAIL or GOODBYE; 0 for anything else.
func codeOf(m protocol.Message) protocol.Code {
	switch m := m.(type) {
	case *protocol.Fail:
		return m.Code
	case *protocol.Goodbye:
		return m.Code
	}
	return 0
}

// certificateKey is what WELCOME has to say.
func (s *Server) certificateKey() [32]byte {
	leaf := s.tls.Certificates[0].Leaf
	return sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
}
