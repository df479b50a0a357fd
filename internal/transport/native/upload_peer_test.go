package native

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"slices"
	"sync"
	"testing"

	"transferd/internal/testnet"
	"transferd/internal/tree"
	"transferd/protocol"
)

// A uploadPeer is a server that takes uploads to memory and nothing else, and
// does wrong what a test wants it to. It checks what it is sent.
type uploadPeer struct {
	t *testing.T

	window  uint64
	zstd    bool
	streams uint32
	have    map[uint64]protocol.Value
	bad     []uint64
	hold    bool                               // no ACK, and no answer to RECHECK and COMMIT
	answer  map[protocol.Type]protocol.Message // instead of what would be right
	onConn  func(number uint32, client *testnet.Conn)

	z     payloads
	group sync.WaitGroup

	mu       sync.Mutex
	control  *stream
	conns    []*testnet.Conn // the client's ends
	uploads  map[uint64]*peerUpload
	puts     map[string][]byte
	wire     int64 // bytes of payload that came
	unacked  int64
	peak     int64
	requests []protocol.Type
	perLane  map[uint32]int // chunks
}

type peerUpload struct {
	begin  *protocol.Begin
	chunks map[uint64][]byte
	values map[uint64]protocol.Value
	sent   int
	commit *protocol.Commit
}

func newUploadPeer(t *testing.T) *uploadPeer {
	t.Helper()
	return &uploadPeer{
		t: t, window: protocol.MinWindow, streams: 1,
		uploads: map[uint64]*peerUpload{}, puts: map[string][]byte{}, perLane: map[uint32]int{},
	}
}

// client returns a client of p; both end with the test.
func (p *uploadPeer) client(o ClientOptions) *Client {
	p.t.Helper()
	o.Control = func(context.Context) (*Stream, Prover, error) { return p.dial(0), nil, nil }
	if p.streams > 1 {
		o.Join = func(context.Context, *protocol.Welcome) (*Stream, error) { return p.dial(1), nil }
	}
	c, err := NewClient(p.t.Context(), o)
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

func (p *uploadPeer) close(c *Client) {
	p.t.Helper()
	if err := c.Close(); err != nil {
		p.t.Error(err)
	}
	p.group.Wait()
}

func (p *uploadPeer) dial(number uint32) *Stream {
	near, far := testnet.Pipe()
	p.mu.Lock()
	p.conns = append(p.conns, near)
	p.mu.Unlock()
	if p.onConn != nil {
		p.onConn(number, near)
	}
	s := newStream(&Stream{ReadWriteCloser: far, Transport: "ssh"}, protocol.FromClient)
	p.group.Go(func() {
		defer s.Close()
		p.serve(s)
	})
	return &Stream{ReadWriteCloser: near, Transport: "ssh", Binding: protocol.BindingSSH, Bound: []byte("bound")}
}

func (p *uploadPeer) serve(s *stream) {
	_ = s.sendPreface()
	if s.readPreface(0) != nil {
		return
	}
	f, err := s.next()
	if err != nil {
		return
	}
	number := uint32(0)
	welcome := &protocol.Welcome{
		Binding: protocol.BindingSSH, User: "u", Home: ".", Streams: p.streams, Operations: 64, Handles: 16,
		Inline: protocol.MaxInline, Window: p.window,
	}
	switch m := f.Message.(type) {
	case *protocol.Hello:
		hello := &protocol.ServerHello{Version: 1, MaxData: protocol.MaxData}
		if p.zstd {
			hello.Extensions = []protocol.Extension{{Name: extensionZstd}}
		}
		p.mu.Lock()
		p.control = s
		p.mu.Unlock()
		_ = s.post(0, hello)
		_ = s.post(0, welcome)
	case *protocol.Join:
		number = m.Stream
		h := hmac.New(sha256.New, welcome.Secret[:])
		h.Write(protocol.JoinMessage(protocol.RoleServer, protocol.BindingSSH, []byte("bound"), welcome.Session, m.Stream))
		_ = s.post(0, &protocol.Joined{MAC: [32]byte(h.Sum(nil))})
	}
	s.open()
	for {
		f, err := s.next()
		if err != nil {
			return
		}
		p.take(s, number, f)
	}
}

func (p *uploadPeer) take(s *stream, number uint32, f frame) {
	if f.Data != nil {
		p.data(s, number, f.ID, f.Data)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = append(p.requests, f.Type)
	if m, ok := p.answer[f.Type]; ok {
		_ = s.post(f.ID, m)
		return
	}
	u := p.uploads[f.ID]
	switch m := f.Message.(type) {
	case *protocol.Begin:
		p.uploads[f.ID] = &peerUpload{begin: m, chunks: map[uint64][]byte{}, values: map[uint64]protocol.Value{}}
		_ = s.post(f.ID, &protocol.Begun{Flags: protocol.BegunJournal | protocol.BegunUnchanged, Window: p.window, Chunks: uint64(len(p.have))})
		for i, v := range p.have {
			p.uploads[f.ID].values[i] = v
			_ = s.post(f.ID, &protocol.Have{First: i, Values: []protocol.Value{v}})
		}
	case *protocol.Recheck:
		if !p.hold {
			for _, i := range p.bad {
				_ = s.post(f.ID, &protocol.Bad{Indexes: []uint64{i}})
			}
			_ = s.post(f.ID, &protocol.Bad{End: protocol.RecheckDone})
		}
	case *protocol.Commit:
		u.commit = m
		p.finish(f.ID, u)
	case *protocol.Cancel:
		if u != nil && u.commit != nil {
			_ = s.post(f.ID, &protocol.Fail{Code: protocol.CodeCancelled})
		}
	case *protocol.Suspend, *protocol.Abort:
		if u != nil {
			_ = s.post(f.ID, &protocol.OK{})
		}
	case *protocol.Put:
		data := make([]byte, m.Size)
		if err := p.z.unpack(protocol.TypePut, data, m.Encoding, m.Data); err != nil {
			p.t.Error(err)
		}
		p.wire += int64(len(m.Data))
		if tree.ChunkValue(data, 0, protocol.MinChunk, true) != tree.Value(m.Digest) {
			p.t.Errorf("digest of %s", m.Path)
		}
		p.puts[m.Path] = data
		_ = s.post(f.ID, &protocol.Committed{})
	default:
		_ = s.post(f.ID, &protocol.Fail{Code: protocol.CodeUnsupported})
	}
}

// data takes DATA of a chunk. The chunk is a hole where nothing comes.
func (p *uploadPeer) data(s *stream, number uint32, id uint64, m *protocol.Data) {
	piece := make([]byte, m.Length)
	length := s.left()
	if err := p.z.receive(s, m, piece); err != nil {
		if _, ok := isBroken(err); ok {
			p.t.Error(err)
		}
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wire += int64(length)
	u := p.uploads[id]
	if u == nil {
		return
	}
	size := int64(u.begin.Chunk)
	index := uint64(m.Offset / size)
	if m.Offset%size == 0 {
		u.chunks[index] = nil
	}
	u.chunks[index] = append(u.chunks[index], piece...)
	if m.Flags&protocol.DataLast == 0 {
		return
	}
	data := u.chunks[index]
	whole := u.begin.Size >= 0 && u.begin.Size <= size
	if v := tree.ChunkValue(data, int64(index), size, whole); protocol.Value(v) != protocol.Value(m.Value) {
		p.t.Errorf("chunk %d has another value", index)
	}
	if _, ok := u.values[index]; !ok || p.have[index] != (protocol.Value{}) {
		u.sent++
	}
	u.values[index] = m.Value
	p.perLane[number]++
	p.unacked += int64(len(data))
	p.peak = max(p.peak, p.unacked)
	if uint64(p.unacked) > p.window {
		p.t.Errorf("%d bytes without an answer, more than the window", p.unacked)
	}
	if !p.hold {
		p.unacked -= int64(len(data))
		_ = p.control.post(id, &protocol.Ack{Ranges: []protocol.Range{{First: index, Count: 1}}})
	}
	p.finish(id, u)
}

// finish answers COMMIT when everything is there.
func (p *uploadPeer) finish(id uint64, u *peerUpload) {
	if u.commit == nil || p.hold || uint64(u.sent) < u.commit.Sent {
		return
	}
	h := sha256.New()
	for i := range uint64(tree.ChunkCount(u.commit.Size, int64(u.begin.Chunk))) {
		v := u.values[i]
		h.Write(v[:])
	}
	if !bytes.Equal(h.Sum(nil), u.commit.Values[:]) {
		_ = p.control.post(id, &protocol.Fail{Code: protocol.CodeIntegrity, Message: "values differ"})
		return
	}
	_ = p.control.post(id, &protocol.Committed{})
}

// seen reports whether a request came.
func (p *uploadPeer) seen(t protocol.Type) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.requests, t)
}
