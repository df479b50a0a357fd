package native

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"transferd/internal/store"
	"transferd/internal/testnet"
	"transferd/internal/tree"
	"transferd/protocol"
)

// A rig is a server with a tree on a disk, for clients that speak frames.
type rig struct {
	t      *testing.T
	server *Server
	tree   FS
	store  *store.Store
	dir    string
	log    lockedBuffer
	guest  func(g *Guest) // changes what the guest is
	o      ServeOptions
	ctx    context.Context // of handshakes
	group  sync.WaitGroup
}

// A lockedBuffer is what a server logs.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newRig(t *testing.T, c ServerConfig) *rig {
	t.Helper()
	dir := t.TempDir()
	s, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, store: s, tree: s, dir: dir, ctx: context.Background()}
	c.Software = "test"
	c.Log = slog.New(slog.NewTextHandler(&r.log, nil))
	r.server = NewServer(c)
	r.o = ServeOptions{Guest: r.open}
	t.Cleanup(func() {
		r.group.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) open(context.Context) (Guest, error) {
	g := Guest{User: "ann", Tree: r.tree, Home: "."}
	if r.guest != nil {
		r.guest(&g)
	}
	return g, nil
}

// A raw is the client's end of one stream.
type raw struct {
	t       *testing.T
	conn    *testnet.Conn
	w       io.Writer // conn, or TLS on it
	r       io.Reader // the same
	frames  *protocol.Reader
	hello   []byte
	server  []byte // body of SERVER_HELLO
	nonces  []byte
	welcome *protocol.Welcome
	ended   chan error // what Serve returned
	secret  string     // what no message may tell
}

// dial starts a stream of the server's over which nothing was said yet.
func (r *rig) dial(change func(st *Stream)) *raw {
	r.t.Helper()
	client, server := testnet.Pipe()
	st := &Stream{
		ReadWriteCloser: server, Transport: "ssh", Binding: protocol.BindingSSH, Bound: []byte("session id"),
	}
	if change != nil {
		change(st)
	}
	c := &raw{
		t: r.t, conn: client, w: client, r: client, frames: protocol.NewReader(client, protocol.MaxFrame),
		ended: make(chan error, 1), secret: r.dir,
	}
	r.group.Go(func() { c.ended <- r.server.Serve(r.ctx, st, r.o) })
	r.t.Cleanup(func() { _ = client.Close() })
	return c
}

// login begins a session.
func (r *rig) login() *raw {
	r.t.Helper()
	return r.loginWith(nil, &protocol.Hello{})
}

func (r *rig) loginWith(change func(st *Stream), hello *protocol.Hello) *raw {
	r.t.Helper()
	c := r.dial(change)
	c.sayHello(hello)
	c.welcome = want[*protocol.Welcome](c, 0)
	return c
}

func (c *raw) preface() {
	c.t.Helper()
	if _, err := c.w.Write([]byte(protocol.Preface)); err != nil {
		c.t.Fatal(err)
	}
	if err := protocol.ReadPreface(c.r, 0); err != nil {
		c.t.Fatal(err)
	}
}

// sayHello sends preface and HELLO, and reads the server's.
func (c *raw) sayHello(m *protocol.Hello) {
	c.t.Helper()
	c.preface()
	if m.MaxVersion == 0 {
		m.MinVersion, m.MaxVersion = 1, 1
	}
	if m.MaxData == 0 {
		m.MaxData = protocol.MaxData
	}
	_, _ = rand.Read(m.Nonce[:])
	c.hello = c.send(0, m)[protocol.HeaderSize:]
	server := want[*protocol.ServerHello](c, 0)
	c.nonces = append(m.Nonce[:], server.Nonce[:]...)
	frame, err := protocol.Append(nil, 0, server)
	if err != nil {
		c.t.Fatal(err)
	}
	c.server = frame[protocol.HeaderSize:]
}

// send sends a frame and returns it.
func (c *raw) send(id uint64, m protocol.Message) []byte {
	c.t.Helper()
	frame, err := protocol.Append(nil, id, m)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.w.Write(frame); err != nil {
		c.t.Fatal(err)
	}
	return frame
}

// next returns the next frame, PING and PONG left out.
func (c *raw) next() (uint64, protocol.Message, error) {
	for {
		h, err := c.frames.Next()
		if err != nil {
			return 0, nil, err
		}
		body, err := c.frames.Body(nil)
		if err != nil {
			return 0, nil, err
		}
		m, err := protocol.Decode(h.Type, body)
		if err != nil {
			return 0, nil, err
		}
		switch m := m.(type) {
		case *protocol.Ping, *protocol.Pong:
			continue
		case *protocol.Fail:
			if strings.Contains(m.Message, c.secret) {
				c.t.Errorf("FAIL %v tells %q", m.Code, m.Message)
			}
		}
		return h.ID, m, nil
	}
}

// want reads the next frame, which must be a T with id.
func want[T protocol.Message](c *raw, id uint64) T {
	c.t.Helper()
	got, m, err := c.next()
	if err != nil {
		c.t.Fatalf("next: %v, want %v with id %d", err, protocol.TypeOf(*new(T)), id)
	}
	typed, ok := m.(T)
	if !ok || got != id {
		c.t.Fatalf("next = %v %+v with id %d, want %v with id %d", protocol.TypeOf(m), m, got, protocol.TypeOf(*new(T)), id)
	}
	return typed
}

// ask sends m and returns the answer, which must be a T.
func ask[T protocol.Message](c *raw, id uint64, m protocol.Message) T {
	c.t.Helper()
	c.send(id, m)
	return want[T](c, id)
}

// fails asks for m and wants FAIL with code.
func (c *raw) fails(id uint64, m protocol.Message, code protocol.Code) {
	c.t.Helper()
	if f := ask[*protocol.Fail](c, id, m); f.Code != code {
		c.t.Errorf("%v: FAIL %v %q, want %v", protocol.TypeOf(m), f.Code, f.Message, code)
	}
}

// wantEnd wants GOODBYE with code and nothing behind it.
func (c *raw) wantEnd(code protocol.Code) {
	c.t.Helper()
	for {
		_, m, err := c.next()
		if err != nil {
			c.t.Fatalf("next: %v, want GOODBYE %v", err, code)
		}
		bye, ok := m.(*protocol.Goodbye)
		if !ok {
			continue
		}
		if bye.Code != code {
			c.t.Errorf("GOODBYE %v %q, want %v", bye.Code, bye.Message, code)
		}
		break
	}
	_ = c.conn.CloseWrite() // which the server waits for
	if _, m, err := c.next(); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		c.t.Errorf("behind GOODBYE: %+v, %v, want the end", m, err)
	}
	_ = c.conn.Close()
}

// bye ends the stream in order.
func (c *raw) bye() {
	c.t.Helper()
	c.send(0, &protocol.Goodbye{Code: protocol.CodeDone})
	if err := <-c.ended; err != nil {
		c.t.Errorf("Serve = %v, want nil", err)
	}
	_ = c.conn.Close()
}

func at(path string) protocol.Place { return protocol.Place{Path: path} }

// putOf is the PUT of data.
func putOf(path, data string) *protocol.Put {
	return &protocol.Put{
		Place: at(path), Size: int64(len(data)), Data: []byte(data), Origin: "m:/" + path,
		Digest: tree.ChunkValue([]byte(data), 0, tree.MinChunkSize, true),
	}
}

func TestServerNamesAndSmallFiles(t *testing.T) {
	r := newRig(t, ServerConfig{})
	c := r.login()
	if c.welcome.User != "ann" || c.welcome.Home != "." || c.welcome.Binding != protocol.BindingSSH || c.welcome.TCPPort != 0 {
		t.Errorf("WELCOME %+v", c.welcome)
	}
	ask[*protocol.OK](c, 1, &protocol.Mkdir{Place: at("d"), Perm: 0o755})
	c.fails(2, &protocol.Mkdir{Place: at("d"), Perm: 0o755}, protocol.CodeExists)
	ask[*protocol.Committed](c, 3, putOf("d/a", "hello"))
	if e := ask[*protocol.Found](c, 4, &protocol.Stat{Place: at("d/a")}).Entry; e.Kind != protocol.KindFile || e.Size != 5 {
		t.Errorf("FOUND %+v", e)
	}
	ask[*protocol.OK](c, 5, &protocol.Symlink{Place: at("l"), Target: "d/a"})
	if e := ask[*protocol.Found](c, 6, &protocol.Stat{Place: at("l")}).Entry; e.Link != "d/a" {
		t.Errorf("FOUND %+v", e)
	}
	if e := ask[*protocol.Found](c, 7, &protocol.Stat{Place: at("l"), Flags: protocol.StatFollow}).Entry; e.Size != 5 {
		t.Errorf("FOUND %+v", e)
	}
	ask[*protocol.OK](c, 8, &protocol.Link{From: at("d/a"), To: at("d/b")})
	ask[*protocol.OK](c, 9, &protocol.Rename{From: at("d/b"), To: at("d/c")})
	c.fails(10, &protocol.Rename{From: at("d/c"), To: at("d/a"), Mode: protocol.RenameNoReplace}, protocol.CodeExists)
	ask[*protocol.OK](c, 11, &protocol.SetAttr{Place: at("d/c"), Attr: protocol.Attr{Set: protocol.AttrPerm, Perm: 0o600}})
	c.fails(12, &protocol.Remove{Place: at("d")}, protocol.CodeNotEmpty)
	ask[*protocol.OK](c, 13, &protocol.Remove{Place: at("d/c")})
	got := ask[*protocol.Got](c, 14, &protocol.Get{Place: at("l"), Limit: 100})
	if string(got.Data) != "hello" || got.Digest != putOf("", "hello").Digest {
		t.Errorf("GOT %+v", got)
	}
	c.fails(15, &protocol.Get{Place: at("l"), Limit: 4}, protocol.CodeTooLarge)
	c.fails(16, &protocol.Get{Place: at("x"), Limit: 4}, protocol.CodeNotFound)
	if s := ask[*protocol.Summed](c, 17, &protocol.Sum{Place: at("l")}); s.Digest != got.Digest {
		t.Errorf("SUMMED %x", s.Digest)
	}
	if m := ask[*protocol.Measured](c, 18, &protocol.Measure{Place: at("d")}); m.Total == 0 {
		t.Errorf("MEASURED %+v", m)
	}
	bad := putOf("d/bad", "hello")
	bad.Digest[3] ^= 1
	c.fails(19, bad, protocol.CodeIntegrity)
	c.fails(20, &protocol.Stat{Place: at("d/bad")}, protocol.CodeNotFound)
	c.fails(21, &protocol.Extend{Name: "x@y"}, protocol.CodeUnsupported)
	for text, path := range map[string]string{"": ".", "~": ".", "~/q": "q", "/a/../b": "b", "../c": "c"} {
		if m := ask[*protocol.Resolved](c, 22, &protocol.Resolve{Text: text}); m.Path != path {
			t.Errorf("RESOLVE %q = %q, want %q", text, m.Path, path)
		}
	}
	c.fails(23, &protocol.Resolve{Text: "~bob/x"}, protocol.CodeNotFound)
	c.bye()
	if log := r.log.String(); strings.Contains(log, "level=ERROR") {
		t.Error(log)
	}
}
