package native

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"sync"
	"testing"

	"transferd/internal/store"
	"transferd/internal/testnet"
	"transferd/internal/tree"
	"transferd/internal/tree/treetest"
	"transferd/protocol"
)

// A pair is a Client and its Server, with a store behind it, in one process.
type pair struct {
	t       *testing.T
	store   *store.Store
	server  *Server
	binding protocol.Binding
	cert    tls.Certificate // with BindingTLS
	host    ed25519.PrivateKey
	user    ed25519.PrivateKey
	group   sync.WaitGroup

	mu     sync.Mutex
	conns  []*testnet.Conn   // the server's ends
	breaks func(n int) int64 // after how many bytes from the server connection n breaks; 0: never
}

func newPair(t *testing.T, binding protocol.Binding) *pair {
	t.Helper()
	s, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p := &pair{t: t, store: s, binding: binding}
	config := ServerConfig{Software: "test", Log: slog.New(slog.DiscardHandler)}
	if binding == protocol.BindingTLS {
		for _, key := range []*ed25519.PrivateKey{&p.host, &p.user} {
			if _, *key, err = ed25519.GenerateKey(rand.Reader); err != nil {
				t.Fatal(err)
			}
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, p.host.Public(), p.host)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		p.cert = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: p.host, Leaf: leaf}
		config.TLSKey = sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
		config.TCPPort = func() uint16 { return protocol.TCPPort }
	}
	p.server = NewServer(config)
	t.Cleanup(func() {
		p.group.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// client returns a Client whose session has so many streams already.
func (p *pair) client(streams int) *Client {
	p.t.Helper()
	c, err := NewClient(p.t.Context(), ClientOptions{
		Control:  p.control,
		Join:     p.join,
		Compress: CompressAlways,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		if err := c.Close(); err != nil {
			p.t.Error(err)
		}
	})
	for range streams - 1 {
		s, err := c.session(p.t.Context())
		if err != nil {
			p.t.Fatal(err)
		}
		if err := s.join(p.t.Context()); err != nil {
			p.t.Fatal(err)
		}
	}
	return c
}

func (p *pair) control(ctx context.Context) (*Stream, Prover, error) {
	if p.binding != protocol.BindingTLS {
		return p.plain(), nil, nil //nolint:contextcheck // the server outlives the dialling
	}
	st, err := p.tls(ctx)
	return st, tester{p}, err
}

func (p *pair) join(ctx context.Context, w *protocol.Welcome) (*Stream, error) {
	if w.Secret != [32]byte{} {
		p.t.Error("who dials a join was told the secret")
	}
	if p.binding != protocol.BindingTLS {
		return p.plain(), nil //nolint:contextcheck // the server outlives the dialling
	}
	return p.tls(ctx)
}

func (p *pair) pipe() (client, server *testnet.Conn) {
	client, server = testnet.Pipe()
	p.mu.Lock()
	if p.breaks != nil {
		if n := p.breaks(len(p.conns)); n > 0 {
			server.CutAfter(n)
		}
	}
	p.conns = append(p.conns, server)
	p.mu.Unlock()
	return client, server
}

// plain is a stream whose peer is known.
func (p *pair) plain() *Stream {
	client, server := p.pipe()
	p.group.Go(func() {
		if p.binding == protocol.BindingStdio {
			_, _ = server.Write([]byte("You have mail.\n"))
		}
		st := &Stream{ReadWriteCloser: server, Transport: "ssh", Binding: p.binding, Bound: []byte("id")}
		// How a stream ends is what the tests of the client see.
		_ = p.server.Serve(context.Background(), st, ServeOptions{
			Guest: func(context.Context) (Guest, error) { return p.guest(), nil },
		})
	})
	return &Stream{ReadWriteCloser: client, Transport: "ssh", Binding: p.binding, Bound: []byte("id")}
}

// tls is a stream whose peer has to prove who it is, unless it joins.
func (p *pair) tls(ctx context.Context) (*Stream, error) {
	client, server := p.pipe()
	p.group.Go(func() { //nolint:contextcheck // the server outlives the dialling
		conn := tls.Server(server, &tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{p.cert}, NextProtos: []string{protocol.ALPN},
		})
		if conn.Handshake() == nil {
			_ = p.server.Serve(context.Background(), overTLS(conn), ServeOptions{Gate: tester{p}})
		}
	})
	conn := tls.Client(client, &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{protocol.ALPN}, InsecureSkipVerify: true,
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return overTLS(conn), nil
}

func overTLS(conn *tls.Conn) *Stream {
	state := conn.ConnectionState()
	return &Stream{
		ReadWriteCloser: conn, Transport: "tcp", Binding: protocol.BindingTLS,
		Exporter: func(label string) ([]byte, error) {
			return state.ExportKeyingMaterial(label, nil, protocol.ExporterSize)
		},
	}
}

func (p *pair) guest() Guest { return Guest{User: "ann", Tree: p.store, Home: "home"} }

// A tester is the Prover and the Gatekeeper of a pair, with keys and signatures
// that are Ed25519's own.
type tester struct{ p *pair }

var errWrong = errors.New("wrong key or signature")

func (x tester) Algorithms() []string { return []string{"ssh-ed25519"} }
func (x tester) User() string         { return "ann" }

func public(key ed25519.PrivateKey) []byte { return key.Public().(ed25519.PublicKey) }

func (x tester) CheckHost(_ context.Context, key, signature, message []byte) error {
	if !bytes.Equal(key, public(x.p.host)) || !ed25519.Verify(key, message, signature) {
		return errWrong
	}
	return nil
}

// Keys are forty that nobody knows, one that is not used after all, and the one.
func (x tester) Keys(context.Context) (keys [][]byte, err error) {
	for i := range 40 {
		keys = append(keys, fmt.Appendf(nil, "stranger %d", i))
	}
	return append(keys, []byte("skipped"), []byte("unwilling"), public(x.p.user)), nil
}

func (x tester) Sign(_ context.Context, key, message []byte) ([]byte, error) {
	switch string(key) {
	case "skipped":
		return nil, ErrSkip
	case "unwilling":
		return []byte("no signature"), nil
	case string(public(x.p.user)):
		return ed25519.Sign(x.p.user, message), nil
	}
	return nil, fmt.Errorf("asked to sign with %q", key)
}

func (x tester) Refused(e *PeerError) error { return e }

func (x tester) Proof(_ context.Context, _ []string, message func([]byte) []byte) (key, signature []byte, err error) {
	key = public(x.p.host)
	return key, ed25519.Sign(x.p.host, message(key)), nil
}

func (x tester) Offer(_ context.Context, user string, keys [][]byte) (would uint32, err error) {
	for i, key := range keys {
		if user == "ann" && !bytes.HasPrefix(key, []byte("stranger")) {
			would |= 1 << i
		}
	}
	return would, nil
}

func (x tester) Prove(_ context.Context, user string, key, signature, message []byte) (Guest, error) {
	if user != "ann" || !bytes.Equal(key, public(x.p.user)) || !ed25519.Verify(key, message, signature) {
		return Guest{}, &Refusal{Code: protocol.CodeAuth, Message: "no"}
	}
	return x.p.guest(), nil
}

func TestConformance(t *testing.T) {
	for _, test := range []struct {
		name    string
		binding protocol.Binding
		streams int
	}{
		{"SSH", protocol.BindingSSH, 1},
		{"stdio", protocol.BindingStdio, 2},
		{"TLS", protocol.BindingTLS, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Run("Sink", func(t *testing.T) {
				treetest.Run(t, func(t *testing.T) tree.Sink {
					t.Helper()
					return newPair(t, test.binding).client(test.streams)
				})
			})
			t.Run("FS", func(t *testing.T) {
				treetest.RunFS(t, func(t *testing.T) tree.FS {
					t.Helper()
					return newPair(t, test.binding).client(test.streams)
				})
			})
		})
	}
}

func TestAMeetingOfClientAndServer(t *testing.T) {
	c := newPair(t, protocol.BindingTLS).client(3)
	if got := c.Transport(); got != "tcp" {
		t.Errorf("Transport = %q, want tcp", got)
	}
	if lines := c.Describe(t.Context()); len(lines) != 3 {
		t.Errorf("Describe = %q, want a line for each of 3 streams", lines)
	}
	if home, err := c.Home(t.Context()); home != "home" || err != nil {
		t.Errorf("Home = %q, %v", home, err)
	}
	for text, want := range map[string]tree.Path{"~": "home", "a/../b": "home/b", "/etc/x": "etc/x"} {
		if p, err := c.RealPath(t.Context(), text); p != want || err != nil {
			t.Errorf("RealPath(%q) = %q, %v, want %q", text, p, err, want)
		}
	}
}

func TestChunksOverSeveralStreams(t *testing.T) {
	const size = 20<<20 + 12345
	data := treetest.Data(1, size)
	clear(data[3<<20 : 9<<20])
	c := newPair(t, protocol.BindingTLS).client(3)
	if err := write(t, c, "f", data); err != nil {
		t.Fatal(err)
	}
	r, err := c.Open(t.Context(), "f")
	if err != nil {
		t.Fatal(err)
	}
	const chunk = tree.MinChunkSize
	n := tree.ChunkCount(size, chunk)
	got := make([]byte, size)
	values := make([]tree.Value, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			x := tree.ChunkExtent(i, size, chunk)
			part := got[x.Offset:x.End()]
			v, err := r.(tree.ChunkReader).ReadChunk(t.Context(), part, i, size, chunk)
			if want := tree.ChunkValue(part, i, chunk, false); err != nil || v != want {
				t.Errorf("ReadChunk(%d) = %x, %v, want %x", i, v, err, want)
			}
			values[i] = v
		})
	}
	group.Wait()
	if !bytes.Equal(got, data) {
		t.Error("the chunks are not the file")
	}
	whole := make([]byte, size+1)
	if n, err := r.ReadAt(whole, 0); n != size || err == nil || !bytes.Equal(whole[:size], data) {
		t.Errorf("ReadAt of everything = %d, %v", n, err)
	}
	hashed, err := r.(tree.ChunkHasher).HashChunks(t.Context(), 2, n-2, size, chunk)
	if err != nil || len(hashed) != int(n-2) {
		t.Fatalf("HashChunks = %d values, %v", len(hashed), err)
	}
	for i, v := range hashed {
		if v != values[i+2] {
			t.Errorf("HashChunks: value %d differs from ReadChunk's", i+2)
		}
	}
	if _, err := r.(tree.ChunkHasher).HashChunks(t.Context(), 0, n+9, size+9*chunk, chunk); !errors.Is(err, tree.ErrSourceChanged) {
		t.Errorf("HashChunks beyond the end = %v, want tree.ErrSourceChanged", err)
	}
	var short [chunk]byte
	if _, err := r.(tree.ChunkReader).ReadChunk(t.Context(), short[:], n-1, size+chunk, chunk); !errors.Is(err, tree.ErrSourceChanged) {
		t.Errorf("ReadChunk beyond the end = %v, want tree.ErrSourceChanged", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// write uploads data to p by OpenFile.
func write(t *testing.T, c *Client, p tree.Path, data []byte) error {
	t.Helper()
	f, err := c.OpenFile(t.Context(), p, tree.OpenWrite|tree.OpenCreate|tree.OpenTruncate, 0o644)
	if err != nil {
		return err
	}
	n, err := f.WriteAt(data, 0)
	if n != len(data) && err == nil {
		t.Errorf("WriteAt of %d bytes = %d without an error", len(data), n)
	}
	return errors.Join(err, f.Close())
}

func TestGet(t *testing.T) {
	c := newPair(t, protocol.BindingSSH).client(1)
	text := bytes.Repeat([]byte("compresses well. "), 1000)
	if err := write(t, c, "f", text); err != nil {
		t.Fatal(err)
	}
	limit, err := c.GetLimit(t.Context())
	if err != nil || limit < int64(len(text)) {
		t.Fatalf("GetLimit = %d, %v", limit, err)
	}
	got, err := c.Get(t.Context(), "f", limit)
	want := tree.Digest(tree.ChunkValue(text, 0, tree.MinChunkSize, true))
	if err != nil || !bytes.Equal(got.Data, text) || got.Digest != want || got.Entry.Size != int64(len(text)) {
		t.Errorf("Get = %d bytes, %v, %+v, %v", len(got.Data), got.Digest, got.Entry, err)
	}
	if _, err := c.Get(t.Context(), "f", int64(len(text))-1); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Get below its size = %v, want errors.ErrUnsupported", err)
	}
}

func TestManySmallFiles(t *testing.T) {
	const files = 2000
	c := newPair(t, protocol.BindingTLS).client(2)
	sub, err := c.Sub(t.Context(), ".")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := sub.Close(); err != nil {
			t.Error(err)
		}
	}()
	data := func(i int) []byte { return treetest.Data(byte(i), 4096) }
	var group sync.WaitGroup
	for i := range files {
		group.Go(func() {
			d := data(i)
			_, err := sub.(tree.Putter).Put(t.Context(), tree.Small{
				Path: tree.Path(fmt.Sprintf("f%d", i)), Data: d, Fsync: tree.FsyncOff, Origin: fmt.Sprint(i),
				Digest: tree.Digest(tree.ChunkValue(d, 0, tree.MinChunkSize, true)),
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for e, err := range sub.List(t.Context(), ".") {
		if err != nil {
			t.Fatal(err)
		}
		group.Go(func() {
			got, err := sub.(tree.Getter).Get(t.Context(), tree.Path(e.Name), 4096)
			var i int
			if _, scanErr := fmt.Sscanf(e.Name, "f%d", &i); err != nil || scanErr != nil || !bytes.Equal(got.Data, data(i)) {
				t.Errorf("Get(%q) = %d bytes, %v", e.Name, len(got.Data), err)
			}
		})
	}
	group.Wait()
}
