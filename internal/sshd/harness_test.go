package sshd

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
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
)

// A rig is a server on an in-memory listener, with one user, alice, whose
// key is key. It is made inside a synctest bubble, which waits for all of it.
type rig struct {
	t        *testing.T
	server   *Server
	native   *native.Server
	listener *testnet.Listener
	hostKey  ssh.Signer
	key      ssh.Signer
	tree     *fakeTree
	log      *logBuffer

	mu     sync.Mutex
	lines  map[string]string // authorized_keys by user
	opened int
	closed int
	panics bool // Open does
}

func newRig(t *testing.T, limits Limits) *rig {
	t.Helper()
	r := &rig{
		t:        t,
		listener: testnet.Listen(),
		hostKey:  newSigner(t),
		key:      newSigner(t),
		tree:     &fakeTree{},
		log:      &logBuffer{},
	}
	r.lines = map[string]string{"alice": authorizedLine(r.key)}
	log := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r.native = native.NewServer(native.ServerConfig{
		Software:    "test",
		Log:         log,
		IdleTimeout: func() time.Duration { return r.server.limits.Load().IdleTimeout },
	})
	var err error
	r.server, err = New(Config{HostKeys: []ssh.Signer{r.hostKey}, Accounts: r, Limits: limits, Log: log, Native: r.native})
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
	if r.panics {
		panic("the test wants it")
	}
	r.opened++
	return session.New(r.tree, session.Login{User: "alice", Permissions: session.All}), func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.closed++
		return nil
	}, nil
}

// dial logs in as user with key; the returned end of the wire takes faults.
func (r *rig) dial(user string, key ssh.Signer) (*ssh.Client, *testnet.Conn, error) {
	r.t.Helper()
	conn, err := r.listener.Dial(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	return r.handshake(conn, user, key)
}

func (r *rig) handshake(conn *testnet.Conn, user string, key ssh.Signer) (*ssh.Client, *testnet.Conn, error) {
	c, channels, requests, err := ssh.NewClientConn(conn, "server", &ssh.ClientConfig{
		User:            user,
		Auth:            []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback: ssh.FixedHostKey(r.hostKey.PublicKey()),
	})
	if err != nil {
		_ = conn.Close()
		return nil, conn, err
	}
	return ssh.NewClient(c, channels, requests), conn, nil
}

// login is dial as alice, which must succeed.
func (r *rig) login() (*ssh.Client, *testnet.Conn) {
	r.t.Helper()
	client, conn, err := r.dial("alice", r.key)
	if err != nil {
		r.t.Fatalf("login: %v\n%s", err, r.log)
	}
	return client, conn
}

// A raw is an SFTP channel spoken to in bytes.
type raw struct {
	*ssh.Session
	in  io.WriteCloser
	out io.Reader
}

func sftpChannel(client *ssh.Client) (*raw, error) {
	s, err := client.NewSession()
	if err != nil {
		return nil, err
	}
	in, err := s.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := s.StdoutPipe()
	if err != nil {
		return nil, err
	}
	r := &raw{s, in, out}
	if err := s.RequestSubsystem("sftp"); err != nil {
		return nil, err
	}
	if err := r.send(1, "\x00\x00\x00\x03"); err != nil { // INIT, version 3
		return nil, err
	}
	if kind, _, err := r.receive(); err != nil || kind != 2 { // VERSION
		return nil, fmt.Errorf("answer to INIT: %d, %w", kind, err)
	}
	return r, nil
}

func (r *raw) send(kind byte, body string) error {
	packet := binary.BigEndian.AppendUint32(nil, uint32(len(body)+1))
	_, err := r.in.Write(append(append(packet, kind), body...))
	return err
}

func (r *raw) receive() (kind byte, body []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r.out, head[:]); err != nil {
		return 0, nil, err
	}
	body = make([]byte, binary.BigEndian.Uint32(head[:])-1)
	_, err = io.ReadFull(r.out, body)
	return head[4], body, err
}

// lstat asks for path and does not wait for the answer.
func (r *raw) lstat(path string) error {
	body := "\x00\x00\x00\x07" + string(binary.BigEndian.AppendUint32(nil, uint32(len(path)))) + path
	return r.send(7, body) // LSTAT
}

// A fakeTree has one file, "/file", whose Lstat waits for gate if that is set.
// Everything else panics, which no test does.
type fakeTree struct {
	tree.FS
	gate chan struct{}
}

func (f *fakeTree) Lstat(ctx context.Context, p tree.Path) (tree.Entry, error) {
	if f.gate != nil {
		select {
		case <-f.gate:
		case <-ctx.Done():
			return tree.Entry{}, ctx.Err()
		}
	}
	if p != "file" {
		return tree.Entry{}, fmt.Errorf("lstat %s: %w", p, fs.ErrNotExist)
	}
	return tree.Entry{Name: "file", Kind: tree.KindFile, Size: 3}, nil
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

// exitStatus is the status that err, from Session.Wait or Run, says.
func exitStatus(err error) int {
	var exit *ssh.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitStatus()
	}
	return -1
}

var _ net.Conn = (*testnet.Conn)(nil)
