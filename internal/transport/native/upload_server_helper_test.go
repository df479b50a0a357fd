package native

import (
	"crypto/sha256"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"transferd/internal/testnet"
	"transferd/internal/tree"
	"transferd/protocol"
)

// An uploadHost is a client that sends what it is told to, and the session that
// it talks to, which knows uploads alone.
type uploadHost struct {
	t       *testing.T
	sink    *memSink
	pool    *chunkPool
	ups     *serverUploads
	window  *window
	group   sync.WaitGroup
	streams []*uploadLane
	freed   sync.Map // id of an upload that was released
}

// An uploadLane is one stream of an uploadHost.
type uploadLane struct {
	*stream
	peer *uploadHost
	far  *testnet.Conn // the server's
	back *stream
}

func newUploadHost(t *testing.T, sink *memSink, streams int) *uploadHost {
	t.Helper()
	p := &uploadHost{t: t, sink: sink, pool: newChunkPool(poolBytes), window: &window{limit: 256 << 20}}
	p.ups = newServerUploads(p.pool, p.window, &payloads{}, true, slog.New(slog.DiscardHandler))
	for range streams {
		p.dial()
	}
	return p
}

func (p *uploadHost) dial() *uploadLane {
	client, server, _, far := streamPair()
	l := &uploadLane{stream: client, peer: p, far: far, back: server}
	p.streams = append(p.streams, l)
	p.group.Go(func() { p.serve(server) })
	return l
}

// serve is the read loop of a session.
func (p *uploadHost) serve(st *stream) {
	in := p.ups.intake(st)
	defer func() {
		st.Close()
		in.lost()
		p.ups.lost(st)
	}()
	for {
		f, err := st.next()
		if err == nil {
			switch m := f.Message.(type) {
			case *protocol.Begin:
				p.ups.begin(p.t.Context(), st, f.ID, m, p.sink, func() { p.freed.Store(f.ID, true) })
			case nil:
				if f.Data != nil {
					err = in.data(p.ups.find(f.ID), f.Data)
				} else if u := p.ups.find(f.ID); u != nil {
					u.refused(f.Refused)
				}
			default:
				if u := p.ups.find(f.ID); u != nil {
					u.message(m)
				}
			}
		}
		if broken, ok := isBroken(err); ok {
			st.goodbye(broken.Code, broken.Error())
			return
		}
		if err != nil {
			return
		}
	}
}

// close ends the session, and checks that nothing is left of it.
func (p *uploadHost) close() {
	p.t.Helper()
	p.ups.end()
	for _, l := range p.streams {
		l.Close()
		l.back.Close()
	}
	p.group.Wait()
	if n := p.sink.open(); n != 0 {
		p.t.Errorf("%d writers were not ended", n)
	}
	if p.window.used != 0 {
		p.t.Errorf("%d bytes are still counted", p.window.used)
	}
	if p.pool.free != poolBytes || len(p.pool.waiting) != 0 {
		p.t.Errorf("%d bytes of memory are still held, %d wait", poolBytes-p.pool.free, len(p.pool.waiting))
	}
}

func (l *uploadLane) must(err error) {
	l.peer.t.Helper()
	if err != nil {
		l.peer.t.Fatal(err)
	}
}

func (l *uploadLane) say(id uint64, m protocol.Message) {
	l.peer.t.Helper()
	l.must(l.send(l.peer.t.Context(), id, m))
}

// chunk sends a chunk whole, in pieces.
func (l *uploadLane) chunk(id uint64, c tree.Chunk, chunk int64) {
	l.peer.t.Helper()
	const piece = 256 << 10
	off := c.Index * chunk
	for at := 0; ; at += piece {
		data := c.Data[at:min(len(c.Data), at+piece)]
		m := &protocol.Data{Offset: off + int64(at), Length: uint32(len(data)), Payload: data}
		last := at+piece >= len(c.Data)
		if last {
			m.Flags, m.Value = protocol.DataLast|protocol.DataValue, c.Value
		}
		l.must(l.sendData(l.peer.t.Context(), id, m))
		if last {
			return
		}
	}
}

// data sends one DATA.
func (l *uploadLane) piece(id uint64, off int64, payload []byte, flags protocol.DataFlags, v tree.Value) {
	l.peer.t.Helper()
	l.must(l.sendData(l.peer.t.Context(), id, &protocol.Data{
		Offset: off, Length: uint32(len(payload)), Flags: flags, Value: v, Payload: payload,
	}))
}

// hear returns the next message for id, those of other ids being lost.
func (l *uploadLane) hear(id uint64) protocol.Message {
	l.peer.t.Helper()
	for {
		f, err := l.next()
		l.must(err)
		if f.ID == id {
			return f.Message
		}
	}
}

// answer returns the last answer for id, and the chunks that were acknowledged
// before it.
func (l *uploadLane) answer(id uint64) (protocol.Message, map[int64]bool) {
	l.peer.t.Helper()
	acked := map[int64]bool{}
	for {
		switch m := l.hear(id).(type) {
		case *protocol.Ack:
			for _, r := range m.Ranges {
				for i := range r.Count {
					acked[int64(r.First+i)] = m.Volatile
				}
			}
		case *protocol.Begun, *protocol.Have, *protocol.Bad:
		default:
			return m, acked
		}
	}
}

// begin sends BEGIN and returns BEGUN.
func (l *uploadLane) begin(id uint64, u tree.Upload) *protocol.Begun {
	l.peer.t.Helper()
	l.say(id, beginToWire(u, 0))
	m := l.hear(id)
	begun, ok := m.(*protocol.Begun)
	if !ok {
		l.peer.t.Fatalf("BEGIN is answered by %+v", m)
	}
	return begun
}

// wantFail checks that m is a FAIL with code.
func wantFail(t *testing.T, m protocol.Message, code protocol.Code) {
	t.Helper()
	if f, ok := m.(*protocol.Fail); !ok || f.Code != code {
		t.Errorf("the answer is %s, want FAIL %v", show(m), code)
	}
}

func wantOK(t *testing.T, m protocol.Message) {
	t.Helper()
	if _, ok := m.(*protocol.OK); !ok {
		t.Errorf("the answer is %s, want OK", show(m))
	}
}

func wantCommitted(t *testing.T, m protocol.Message) {
	t.Helper()
	if _, ok := m.(*protocol.Committed); !ok {
		t.Errorf("the answer is %s, want COMMITTED", show(m))
	}
}

func show(m protocol.Message) string { return fmt.Sprintf("%T%+v", m, m) }

// commitOf is the COMMIT of a file with so many chunks sent.
func commitOf(f tree.Final, sent uint64) *protocol.Commit {
	h := sha256.New()
	for _, v := range f.Values {
		_, _ = h.Write(v[:])
	}
	return &protocol.Commit{
		Size: f.Size, Sent: sent, Values: [32]byte(h.Sum(nil)), HasDigest: f.HasDigest, Digest: f.Digest,
		Attr: attrToWire(f.Attr),
	}
}

const testChunk = tree.MinChunkSize
