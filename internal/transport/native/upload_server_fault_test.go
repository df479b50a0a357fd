package native

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"
	"testing/synctest"
	"time"

	"transferd/internal/tree"
	"transferd/internal/tree/treetest"
	"transferd/protocol"
)

func TestAChunkOnTwoStreamsCountsOnce(t *testing.T) {
	bubble(t, 2, func(t *testing.T, p *uploadHost) {
		p.sink.eager = false
		data := treetest.Data(1, 2*testChunk)
		chunks := treetest.Chunks(data)
		a, b := p.streams[0], p.streams[1]
		a.begin(1, treetest.Upload("f", data))
		a.piece(1, 0, data[:1000], 0, tree.Value{})
		b.piece(1, 0, data[:2000], 0, tree.Value{})
		synctest.Wait()
		if p.window.used != 2000 {
			t.Errorf("%d bytes are counted", p.window.used)
		}
		a.piece(1, 1000, data[1000:testChunk], protocol.DataLast|protocol.DataValue, chunks[0].Value)
		b.piece(1, 2000, data[2000:testChunk], protocol.DataLast|protocol.DataValue, chunks[0].Value)
		b.chunk(1, chunks[0], testChunk)
		synctest.Wait()
		if p.window.used != testChunk {
			t.Errorf("%d bytes are counted", p.window.used)
		}
		if n := len(p.sink.last().order); n != 1 {
			t.Errorf("written %d times", n)
		}
		b.chunk(1, chunks[1], testChunk)
		a.say(1, commitOf(treetest.FinalOf(data), 2))
		m, _ := a.answer(1)
		wantCommitted(t, m)
	})
}

func TestAChunkThatChangesIsReplaced(t *testing.T) {
	bubble(t, 2, func(t *testing.T, p *uploadHost) {
		p.sink.eager = false
		data := treetest.Data(1, 2*testChunk)
		old := bytes.Clone(data)
		old[7]++
		l := p.streams[0]
		l.begin(1, treetest.Upload("f", data))
		l.chunk(1, treetest.Chunks(old)[0], testChunk)
		l.chunk(1, treetest.Chunks(data)[0], testChunk)
		synctest.Wait()
		if n := len(p.sink.last().order); n != 1 {
			t.Errorf("written %d times before the first is durable", n)
		}
		p.sink.last().flush()
		synctest.Wait()
		p.sink.last().flush()
		for range 2 {
			if ack, ok := l.hear(1).(*protocol.Ack); !ok || fmt.Sprint(ack.Ranges) != "[{0 1}]" {
				t.Errorf("acknowledged: %+v", ack)
			}
		}
		l.chunk(1, treetest.Chunks(data)[1], testChunk)
		l.say(1, commitOf(treetest.FinalOf(data), 2))
		m, _ := l.answer(1)
		wantCommitted(t, m)
		if got, _ := p.sink.file("f"); !bytes.Equal(got, data) {
			t.Error("the file is another")
		}
	})
}

func TestALostStreamTakesWhatIsHalf(t *testing.T) {
	bubble(t, 2, func(t *testing.T, p *uploadHost) {
		data := treetest.Data(1, 3*testChunk)
		chunks := treetest.Chunks(data)
		a, b := p.streams[0], p.streams[1]
		u := treetest.Upload("f", data)
		a.begin(1, u)
		b.begin(2, treetest.Upload("g", data))
		b.chunk(1, chunks[0], testChunk)
		b.chunk(2, chunks[2], testChunk)
		b.piece(1, testChunk, data[testChunk:][:1000], 0, tree.Value{})
		synctest.Wait()
		b.far.Cut()
		synctest.Wait()
		if p.window.used != 0 || p.pool.free != poolBytes {
			t.Errorf("%d bytes are counted, %d held", p.window.used, poolBytes-p.pool.free)
		}
		if n := len(p.sink.partial(treetest.Upload("g", data))); n != 1 || p.sink.open() != 1 {
			t.Errorf("the upload of the lost stream has %d chunks; %d are open", n, p.sink.open())
		}
		for _, c := range chunks { // the first once more: who sends cannot know
			a.chunk(1, c, testChunk)
		}
		a.say(1, commitOf(treetest.FinalOf(data), 3))
		m, _ := a.answer(1)
		wantCommitted(t, m)
		if got, _ := p.sink.file("f"); !bytes.Equal(got, data) {
			t.Error("the file is another")
		}
	})
}

func TestTheEndOfASessionSuspends(t *testing.T) {
	data := treetest.Data(1, 4*testChunk)
	u := treetest.Upload("f", data)
	for name, end := range map[string]func(p *uploadHost){
		"ends": func(p *uploadHost) { p.ups.end() },
		"cut":  func(p *uploadHost) { p.streams[0].far.Cut() },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 1, func(t *testing.T, p *uploadHost) {
				p.sink.eager = false
				p.sink.onWrite = func(context.Context, tree.Chunk) error { <-time.After(time.Second); return nil }
				l := p.streams[0]
				l.begin(1, u)
				for _, c := range treetest.Chunks(data)[:3] {
					l.chunk(1, c, testChunk)
				}
				l.piece(1, 3*testChunk, data[3*testChunk:][:5], 0, tree.Value{})
				l.say(1, commitOf(treetest.FinalOf(data), 4)) // which cannot be
				synctest.Wait()
				end(p)
				p.ups.end()
				if n := len(p.sink.partial(u)); n != 3 {
					t.Errorf("%d chunks are kept of 3 that arrived", n)
				}
				if _, ok := p.freed.Load(uint64(1)); !ok {
					t.Error("the upload was not released")
				}
			})
		})
	}
}

func TestADiskThatHangsDoesNotKeepASession(t *testing.T) {
	bubble(t, 1, func(t *testing.T, p *uploadHost) {
		p.sink.onWrite = func(ctx context.Context, _ tree.Chunk) error { <-ctx.Done(); return ctx.Err() }
		data := treetest.Data(1, 2*testChunk)
		l := p.streams[0]
		l.begin(1, treetest.Upload("f", data))
		l.chunk(1, treetest.Chunks(data)[0], testChunk)
		synctest.Wait()
		began := time.Now()
		p.ups.end()
		if took := time.Since(began); took != suspendGrace {
			t.Errorf("after %v", took)
		}
	})
}

func TestAWriteThatFailsEndsTheUpload(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		code protocol.Code
	}{
		"full":       {&fs.PathError{Op: "write", Path: "/srv/f", Err: tree.ErrNoSpace}, protocol.CodeNoSpace},
		"fire":       {errDisk, protocol.CodeFailure},
		"taken over": {fmt.Errorf("write f: %w", tree.ErrTakenOver), protocol.CodeTakenOver},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 1, func(t *testing.T, p *uploadHost) {
				data := treetest.Data(1, 4*testChunk)
				u := treetest.Upload("f", data)
				p.sink.onWrite = func(_ context.Context, c tree.Chunk) error {
					if c.Index == 2 {
						return tt.err
					}
					return nil
				}
				l := p.streams[0]
				l.begin(1, u)
				for _, c := range treetest.Chunks(data) {
					l.chunk(1, c, testChunk)
				}
				l.say(1, commitOf(treetest.FinalOf(data), 4))
				m, _ := l.answer(1)
				wantFail(t, m, tt.code)
				if kept := p.sink.partial(u); kept[2].data != nil || kept[0].data == nil || p.sink.open() != 0 {
					t.Errorf("%d chunks are kept", len(kept))
				}
			})
		})
	}
}

// TestAnIdleUploadThatFailsIsTold: the client may have sent all that it may, and
// wait.
func TestAnIdleUploadThatFailsIsTold(t *testing.T) {
	bubble(t, 1, func(t *testing.T, p *uploadHost) {
		data := treetest.Data(1, 4*testChunk)
		l := p.streams[0]
		l.begin(1, treetest.Upload("f", data))
		l.chunk(1, treetest.Chunks(data)[0], testChunk)
		synctest.Wait()
		p.sink.last().u.Failed(tree.ErrTakenOver)
		m, _ := l.answer(1)
		wantFail(t, m, protocol.CodeTakenOver)
	})
}

// TestNothingIsToldBehindTheLastAnswer: who takes an upload over records what it
// had, and may come to it late.
func TestNothingIsToldBehindTheLastAnswer(t *testing.T) {
	bubble(t, 1, func(t *testing.T, p *uploadHost) {
		data := treetest.Data(1, 4*testChunk)
		l := p.streams[0]
		l.begin(1, treetest.Upload("f", data))
		l.chunk(1, treetest.Chunks(data)[0], testChunk)
		l.say(1, &protocol.Suspend{})
		m, _ := l.answer(1)
		wantOK(t, m)
		p.sink.last().u.Durable([]int64{0})
		l.begin(2, treetest.Upload("g", data))
		l.say(2, &protocol.Abort{})
		for {
			f, err := l.next()
			l.must(err)
			if f.ID != 2 {
				t.Fatalf("%s is told of an upload that has ended", show(f.Message))
			}
			if _, ok := f.Message.(*protocol.OK); ok {
				return
			}
		}
	})
}

func TestWhatIsLostAtTheEndIsNotOK(t *testing.T) {
	for name, tt := range map[string]struct {
		end  protocol.Message
		code protocol.Code
	}{
		"suspend": {&protocol.Suspend{}, protocol.CodeNoSpace},
		"abort":   {&protocol.Abort{}, protocol.CodeNoSpace},
		"commit":  {commitOf(treetest.FinalOf(nil), 0), protocol.CodeNoSpace}, // whose one chunk is empty
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 1, func(t *testing.T, p *uploadHost) {
				p.sink.onEnd = func(string) error { return tree.ErrNoSpace }
				l := p.streams[0]
				l.begin(1, treetest.Upload("f", nil))
				l.say(1, tt.end)
				m, _ := l.answer(1)
				wantFail(t, m, tt.code)
			})
		})
	}
	t.Run("a chunk", func(t *testing.T) {
		bubble(t, 1, func(t *testing.T, p *uploadHost) {
			data := treetest.Data(1, 2*testChunk)
			p.sink.onWrite = func(context.Context, tree.Chunk) error { <-time.After(time.Second); return tree.ErrQuota }
			l := p.streams[0]
			l.begin(1, treetest.Upload("f", data))
			l.chunk(1, treetest.Chunks(data)[0], testChunk)
			l.say(1, &protocol.Suspend{})
			m, _ := l.answer(1)
			wantFail(t, m, protocol.CodeQuota)
		})
	})
}

func TestMoreThanTheWindow(t *testing.T) {
	for name, tt := range map[string]struct {
		session int64
		begin   int // uploads that share it
	}{
		"of the upload":  {1 << 40, 1},
		"of the session": {64 << 20, 3},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 1, func(t *testing.T, p *uploadHost) {
				p.window.limit = tt.session
				p.sink.eager = false
				u := treetest.Upload("f", nil)
				u.Size, u.ChunkSize = 1<<30, tree.MaxChunkSize
				l := p.streams[0]
				for id := range tt.begin {
					u.Path = tree.Path(fmt.Sprint(id))
					l.begin(uint64(id+1), u)
				}
				zeros := make([]byte, tree.MaxChunkSize)
				sent := 0
				for i := range int64(64) { // 256 MiB, and nothing is durable
					id := uint64(i)%uint64(tt.begin) + 1
					index := i / int64(tt.begin)
					l.must(l.sendData(t.Context(), id, &protocol.Data{
						Offset: index * tree.MaxChunkSize, Length: tree.MaxChunkSize, Encoding: protocol.EncodingHole,
						Flags: protocol.DataLast | protocol.DataValue,
						Value: tree.ChunkValue(zeros, index, tree.MaxChunkSize, false),
					}))
					sent++
					synctest.Wait()
					if p.ups.find(id) == nil {
						break
					}
				}
				for id := range tt.begin {
					if p.ups.find(uint64(id+1)) != nil {
						continue
					}
					m, acked := l.answer(uint64(id + 1))
					wantFail(t, m, protocol.CodeWindow)
					if len(acked) == 0 {
						t.Error("what had arrived was not made durable")
					}
					return
				}
				t.Errorf("%d chunks were taken", sent)
			})
		})
	}
}

func TestAnEmptyFileNeedsNoChunk(t *testing.T) {
	for _, hole := range []bool{false, true} {
		bubble(t, 1, func(t *testing.T, p *uploadHost) {
			f := treetest.FinalOf(nil)
			if hole {
				f.Values[0] = tree.Value{}
			}
			l := p.streams[0]
			l.begin(1, treetest.Upload("f", nil))
			l.say(1, commitOf(f, 0))
			m, _ := l.answer(1)
			wantCommitted(t, m)
		})
	}
}

func TestMessagesThatMakeNoSense(t *testing.T) {
	data := treetest.Data(1, 2*testChunk)
	bubble(t, 1, func(t *testing.T, p *uploadHost) {
		p.sink.onCheck = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		l := p.streams[0]
		for _, m := range []protocol.Message{&protocol.Recheck{}, &protocol.Commit{}, &protocol.Suspend{}, &protocol.Abort{}, &protocol.Cancel{}} {
			l.say(99, m) // of no upload
		}
		l.begin(1, treetest.Upload("f", data))
		l.say(1, &protocol.Recheck{})
		l.say(1, &protocol.Recheck{})
		m, _ := l.answer(1)
		wantFail(t, m, protocol.CodeBadState)

		l.begin(2, treetest.Upload("f", data))
		l.say(2, &protocol.Abort{})
		l.say(2, &protocol.Commit{})
		l.say(2, &protocol.Suspend{})
		m, _ = l.answer(2)
		wantOK(t, m)
		l.say(2, &protocol.Commit{})
		synctest.Wait()
	})
}

func TestCompressedDataOfWhoDoesNotCompressIsBroken(t *testing.T) {
	bubble(t, 1, func(t *testing.T, p *uploadHost) {
		p.ups.zstd = false
		l := p.streams[0]
		l.begin(1, treetest.Upload("f", []byte("x")))
		l.must(l.sendData(t.Context(), 1, &protocol.Data{Length: 1, Encoding: protocol.EncodingZstd, Payload: []byte("xyz")}))
		err := skim(l.stream)
		var said *PeerError
		if !errors.As(err, &said) || said.Code != protocol.CodeBadMessage {
			t.Errorf("the stream ends with %v", err)
		}
	})
}
