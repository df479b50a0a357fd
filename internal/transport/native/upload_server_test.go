package native

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"transferd/internal/tree"
	"transferd/internal/tree/treetest"
	"transferd/protocol"
)

// bubble runs fn with a peer of so many streams, in a bubble of its own, so that
// goroutines that are left over are found.
func bubble(t *testing.T, streams int, fn func(t *testing.T, p *uploadHost)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newUploadHost(t, newMemSink(t), streams)
		defer p.close()
		fn(t, p)
	})
}

func TestUploadOverSeveralStreams(t *testing.T) {
	bubble(t, 3, func(t *testing.T, p *uploadHost) {
		data := treetest.Data(1, 5*testChunk+17)
		l := p.streams[0]
		begun := l.begin(1, treetest.Upload("d/f", data))
		if begun.Flags != protocol.BegunJournal || begun.Window != journalWindow || begun.Chunks != 0 {
			t.Errorf("begun: %+v", begun)
		}
		for i, c := range treetest.Chunks(data) {
			p.streams[i%3].chunk(1, c, testChunk)
		}
		l.say(1, commitOf(treetest.FinalOf(data), 6)) // may overtake what goes another way
		m, acked := l.answer(1)
		wantCommitted(t, m)
		if len(acked) != 6 || acked[0] {
			t.Errorf("acknowledged: %v", acked)
		}
		if got, _ := p.sink.file("d/f"); !bytes.Equal(got, data) {
			t.Error("the file is another")
		}
	})
}

func TestUploadWithoutWaiting(t *testing.T) {
	for _, size := range []int{0, 1, 100, testChunk - 1, testChunk, testChunk + 1} {
		bubble(t, 1, func(t *testing.T, p *uploadHost) {
			data := treetest.Data(2, size)
			l := p.streams[0]
			l.say(1, beginToWire(treetest.Upload("f", data), 0))
			chunks := treetest.Chunks(data)
			for _, c := range chunks {
				l.chunk(1, c, testChunk)
			}
			l.say(1, commitOf(treetest.FinalOf(data), uint64(len(chunks))))
			m, _ := l.answer(1)
			wantCommitted(t, m)
			if got, ok := p.sink.file("f"); !ok || !bytes.Equal(got, data) {
				t.Errorf("%d bytes: the file is another", size)
			}
		})
	}
}

func TestUploadOfUnknownSize(t *testing.T) {
	for _, size := range []int{0, 5, testChunk, testChunk + 5, 3 * testChunk} {
		bubble(t, 1, func(t *testing.T, p *uploadHost) {
			p.sink.journal = false
			data := treetest.Data(3, size)
			u := treetest.Upload("f", data)
			u.Size = -1
			l := p.streams[0]
			if begun := l.begin(1, u); begun.Flags != 0 || begun.Window != streamWindow {
				t.Errorf("begun: %+v", begun)
			}
			chunks := treetest.Chunks(data)
			for _, c := range chunks {
				l.chunk(1, c, testChunk)
			}
			l.say(1, commitOf(treetest.FinalOf(data), uint64(len(chunks))))
			m, acked := l.answer(1)
			wantCommitted(t, m)
			if !acked[0] {
				t.Errorf("%d bytes: acknowledged: %v", size, acked)
			}
			if got, _ := p.sink.file("f"); !bytes.Equal(got, data) {
				t.Errorf("%d bytes: the file is another", size)
			}
		})
	}
}

func TestUploadIsAcknowledgedWhenItIsDurable(t *testing.T) {
	bubble(t, 1, func(t *testing.T, p *uploadHost) {
		p.sink.eager = false
		data := treetest.Data(4, 4*testChunk)
		l := p.streams[0]
		l.begin(1, treetest.Upload("f", data))
		chunks := treetest.Chunks(data)
		for _, i := range []int{3, 0, 1} {
			l.chunk(1, chunks[i], testChunk)
		}
		synctest.Wait()
		if p.window.used != 3*testChunk {
			t.Errorf("%d bytes are counted before they are durable", p.window.used)
		}
		p.sink.last().flush()
		ack, ok := l.hear(1).(*protocol.Ack)
		if !ok || ack.Volatile || fmt.Sprint(ack.Ranges) != "[{0 2} {3 1}]" {
			t.Errorf("acknowledged: %+v", ack)
		}
		if p.window.used != 0 {
			t.Errorf("%d bytes are counted after the acknowledgement", p.window.used)
		}
		l.say(1, &protocol.Suspend{})
		wantOK(t, l.hear(1))
		if n := len(p.sink.partial(treetest.Upload("f", data))); n != 3 {
			t.Errorf("%d chunks are kept", n)
		}
	})
}

func TestUploadWithoutFsyncIsVolatile(t *testing.T) {
	bubble(t, 1, func(t *testing.T, p *uploadHost) {
		p.sink.eager = false
		data := treetest.Data(4, 2*testChunk)
		u := treetest.Upload("f", data)
		u.Fsync = tree.FsyncOff
		l := p.streams[0]
		l.begin(1, u)
		l.chunk(1, treetest.Chunks(data)[0], testChunk)
		if ack, ok := l.hear(1).(*protocol.Ack); !ok || !ack.Volatile {
			t.Errorf("acknowledged: %+v", ack)
		}
		p.sink.last().flush() // nothing more is told
		l.say(1, &protocol.Abort{})
		wantOK(t, l.hear(1))
	})
}

func TestUploadResumes(t *testing.T) {
	bubble(t, 1, func(t *testing.T, p *uploadHost) {
		data := treetest.Data(5, 6*testChunk)
		u := treetest.Upload("f", data)
		l := p.streams[0]
		l.begin(1, u)
		chunks := treetest.Chunks(data)
		for _, i := range []int{0, 1, 4} {
			l.chunk(1, chunks[i], testChunk)
		}
		l.say(1, &protocol.Suspend{})
		m, acked := l.answer(1)
		wantOK(t, m)
		if len(acked) != 3 {
			t.Errorf("acknowledged: %v", acked)
		}

		rotten := p.sink.partial(u)[1]
		rotten.bad = true
		p.sink.partial(u)[1] = rotten
		begun := l.begin(2, u)
		if begun.Chunks != 3 || begun.Flags != protocol.BegunJournal|protocol.BegunUnchanged {
			t.Errorf("begun: %+v", begun)
		}
		for _, want := range []protocol.Have{
			{First: 0, Values: []protocol.Value{protocol.Value(chunks[0].Value), protocol.Value(chunks[1].Value)}},
			{First: 4, Values: []protocol.Value{protocol.Value(chunks[4].Value)}},
		} {
			if have, ok := l.hear(2).(*protocol.Have); !ok || fmt.Sprint(*have) != fmt.Sprint(want) {
				t.Errorf("have %+v, want %+v", have, want)
			}
		}
		l.say(2, &protocol.Recheck{})
		if bad, ok := l.hear(2).(*protocol.Bad); !ok || bad.End != protocol.RecheckGoesOn || fmt.Sprint(bad.Indexes) != "[1]" {
			t.Errorf("bad: %+v", bad)
		}
		if bad, ok := l.hear(2).(*protocol.Bad); !ok || bad.End != protocol.RecheckDone || len(bad.Indexes) != 0 {
			t.Errorf("bad: %+v", bad)
		}
		for _, i := range []int{1, 2, 3, 5} {
			l.chunk(2, chunks[i], testChunk)
		}
		l.say(2, commitOf(treetest.FinalOf(data), 4))
		m, _ = l.answer(2)
		wantCommitted(t, m)
		if got, _ := p.sink.file("f"); !bytes.Equal(got, data) {
			t.Error("the file is another")
		}
	})
}

func TestUploadWithHoles(t *testing.T) {
	bubble(t, 1, func(t *testing.T, p *uploadHost) {
		data := make([]byte, 4*testChunk)
		copy(data[testChunk+100:], "abc")                // a chunk that is data in its middle
		copy(data[3*testChunk:], treetest.Data(6, 1000)) // one that is data at its beginning
		f := treetest.FinalOf(data)
		chunks := treetest.Chunks(data)
		u := treetest.Upload("f", data)
		u.Sparse = true
		var extents [4][]tree.Extent
		p.sink.onWrite = func(_ context.Context, c tree.Chunk) error { extents[c.Index] = c.Extents; return nil }
		l := p.streams[0]
		l.begin(1, u)
		hole := func(from, to int64, flags protocol.DataFlags, v tree.Value) {
			l.must(l.sendData(t.Context(), 1, &protocol.Data{
				Offset: from, Length: uint32(to - from), Encoding: protocol.EncodingHole, Flags: flags, Value: v,
			}))
		}
		const end = protocol.DataLast | protocol.DataValue
		hole(testChunk, testChunk+100, 0, tree.Value{})
		l.piece(1, testChunk+100, []byte("ab"), 0, tree.Value{})
		l.piece(1, testChunk+102, []byte("c"), 0, tree.Value{})
		hole(testChunk+103, 2*testChunk, end, chunks[1].Value)
		hole(2*testChunk, 3*testChunk, end, chunks[2].Value)
		l.piece(1, 3*testChunk, data[3*testChunk:][:1000], 0, tree.Value{})
		hole(3*testChunk+1000, 4*testChunk, end, chunks[3].Value)
		f.Values[0] = tree.Value{} // that one was not sent
		l.say(1, commitOf(f, 3))
		m, _ := l.answer(1)
		wantCommitted(t, m)
		if got, _ := p.sink.file("f"); !bytes.Equal(got, data) {
			t.Error("the file is another")
		}
		if got, want := fmt.Sprint(extents), fmt.Sprintf("[[] [{%d 3}] [] [{%d 1000}]]", testChunk+100, 3*testChunk); got != want || extents[2] == nil {
			t.Errorf("extents %s, want %s", got, want)
		}
	})
}

func TestUploadThatIsCompressed(t *testing.T) {
	bubble(t, 1, func(t *testing.T, p *uploadHost) {
		data := bytes.Repeat([]byte("all work and no play "), 20_000)
		u := treetest.Upload("f", data)
		l := p.streams[0]
		l.begin(1, u)
		var z payloads
		packed, ok := z.pack(nil, data)
		if !ok {
			t.Fatal("not compressed")
		}
		c := treetest.Chunks(data)[0]
		l.must(l.sendData(t.Context(), 1, &protocol.Data{
			Length: uint32(len(data)), Encoding: protocol.EncodingZstd, Payload: packed,
			Flags: protocol.DataLast | protocol.DataValue, Value: c.Value,
		}))
		l.say(1, commitOf(treetest.FinalOf(data), 1))
		m, _ := l.answer(1)
		wantCommitted(t, m)
	})
}

func TestUploadIsCancelled(t *testing.T) {
	wait := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	t.Run("before it has begun", func(t *testing.T) {
		bubble(t, 1, func(t *testing.T, p *uploadHost) {
			p.sink.onBegin = wait
			l := p.streams[0]
			l.say(1, beginToWire(treetest.Upload("f", nil), 0))
			l.say(1, &protocol.Cancel{})
			wantFail(t, l.hear(1), protocol.CodeCancelled)
		})
	})
	t.Run("while chunks are read again", func(t *testing.T) {
		bubble(t, 1, func(t *testing.T, p *uploadHost) {
			p.sink.onCheck = wait
			l := p.streams[0]
			l.begin(1, treetest.Upload("f", nil))
			l.say(1, &protocol.Recheck{})
			synctest.Wait()
			l.say(1, &protocol.Cancel{})
			if bad, ok := l.hear(1).(*protocol.Bad); !ok || bad.End != protocol.RecheckStopped {
				t.Errorf("the end is %+v", bad)
			}
			l.say(1, &protocol.Suspend{})
			wantOK(t, l.hear(1))
		})
	})
	t.Run("while COMMIT waits", func(t *testing.T) {
		bubble(t, 1, func(t *testing.T, p *uploadHost) {
			data := treetest.Data(1, 3*testChunk)
			l := p.streams[0]
			l.begin(1, treetest.Upload("f", data))
			l.chunk(1, treetest.Chunks(data)[1], testChunk)
			l.say(1, commitOf(treetest.FinalOf(data), 3))
			l.say(1, &protocol.Cancel{})
			m, acked := l.answer(1)
			wantFail(t, m, protocol.CodeCancelled)
			if len(acked) != 1 || len(p.sink.partial(treetest.Upload("f", data))) != 1 {
				t.Errorf("acknowledged: %v", acked)
			}
		})
	})
}

func TestCommitWaitsForChunksThatAreSilent(t *testing.T) {
	bubble(t, 2, func(t *testing.T, p *uploadHost) {
		data := treetest.Data(1, 3*testChunk)
		chunks := treetest.Chunks(data)
		l := p.streams[0]
		l.begin(1, treetest.Upload("f", data))
		l.say(1, commitOf(treetest.FinalOf(data), 3))
		<-time.After(commitSilence - time.Second)
		p.streams[1].chunk(1, chunks[0], testChunk)
		l.hear(1)
		began := time.Now()
		m, _ := l.answer(1)
		wantFail(t, m, protocol.CodeIntegrity)
		if took := time.Since(began); took != commitSilence {
			t.Errorf("after %v", took)
		}
	})
}

func TestCommitThatIsWrong(t *testing.T) {
	data := treetest.Data(1, 2*testChunk)
	for name, change := range map[string]func(m *protocol.Commit){
		"size":     func(m *protocol.Commit) { m.Size-- },
		"values":   func(m *protocol.Commit) { m.Values[0]++ },
		"digest":   func(m *protocol.Commit) { m.Digest[0]++ },
		"too many": func(m *protocol.Commit) { m.Sent++ },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 1, func(t *testing.T, p *uploadHost) {
				l := p.streams[0]
				u := treetest.Upload("f", data)
				l.begin(1, u)
				for _, c := range treetest.Chunks(data) {
					l.chunk(1, c, testChunk)
				}
				m := commitOf(treetest.FinalOf(data), 2)
				change(m)
				l.say(1, m)
				got, _ := l.answer(1)
				wantFail(t, got, protocol.CodeIntegrity)
				if _, ok := p.sink.file("f"); ok || len(p.sink.partial(u)) != 2 {
					t.Error("published, or not kept")
				}
			})
		})
	}
}

func TestDataThatDoesNotFit(t *testing.T) {
	data := treetest.Data(1, 2*testChunk+5)
	chunks := treetest.Chunks(data)
	const end = protocol.DataLast | protocol.DataValue
	for name, tt := range map[string]struct {
		send func(l *uploadLane)
		code protocol.Code
	}{
		"begins within a chunk": {func(l *uploadLane) { l.piece(1, 1, data[1:9], 0, tree.Value{}) }, protocol.CodeWrongOffset},
		"behind the end":        {func(l *uploadLane) { l.piece(1, 3*testChunk, data[:9], 0, tree.Value{}) }, protocol.CodeWrongOffset},
		"leaves something out": {func(l *uploadLane) {
			l.piece(1, 0, data[:9], 0, tree.Value{})
			l.piece(1, 10, data[10:19], 0, tree.Value{})
		}, protocol.CodeWrongOffset},
		"comes again": {func(l *uploadLane) {
			l.piece(1, 0, data[:9], 0, tree.Value{})
			l.piece(1, 0, data[:9], 0, tree.Value{})
		}, protocol.CodeWrongOffset},
		"too long": {func(l *uploadLane) { l.piece(1, 2*testChunk, data[:6], 0, tree.Value{}) }, protocol.CodeWrongOffset},
		"too short": {func(l *uploadLane) {
			l.piece(1, 0, data[:6], end, chunks[0].Value)
		}, protocol.CodeWrongOffset},
		"never ends":      {func(l *uploadLane) { l.piece(1, 2*testChunk, data[2*testChunk:], 0, tree.Value{}) }, protocol.CodeWrongOffset},
		"nothing":         {func(l *uploadLane) { l.piece(1, 0, nil, 0, tree.Value{}) }, protocol.CodeWrongOffset},
		"without a value": {func(l *uploadLane) { l.piece(1, 2*testChunk, data[2*testChunk:], protocol.DataLast, tree.Value{}) }, protocol.CodeWrongOffset},
		"another's within": {func(l *uploadLane) {
			l.piece(1, 0, data[:9], 0, tree.Value{})
			l.piece(2, 0, data[:9], 0, tree.Value{})
		}, protocol.CodeWrongOffset},
		"with a wrong value": {func(l *uploadLane) {
			l.piece(1, 2*testChunk, data[2*testChunk:], end, chunks[0].Value)
		}, protocol.CodeIntegrity},
		"at another place": {func(l *uploadLane) {
			c := chunks[0]
			c.Index = 1
			l.chunk(1, c, testChunk)
		}, protocol.CodeIntegrity},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 1, func(t *testing.T, p *uploadHost) {
				l := p.streams[0]
				u := treetest.Upload("f", data)
				l.begin(1, u)
				l.begin(2, treetest.Upload("g", data))
				l.chunk(1, chunks[1], testChunk)
				tt.send(l)
				l.chunk(1, chunks[0], testChunk) // crosses the last answer
				m, _ := l.answer(1)
				wantFail(t, m, tt.code)
				// Values are looked at beside the reading, so the last chunk, which is
				// right, may be in time.
				if n := len(p.sink.partial(u)); n != 1 && !(n == 2 && tt.code == protocol.CodeIntegrity) {
					t.Errorf("%d chunks are kept", n)
				}
			})
		})
	}
}

func TestUnknownSizeComesInOrder(t *testing.T) {
	data := treetest.Data(1, 3*testChunk)
	chunks := treetest.Chunks(data)
	for name, send := range map[string]func(p *uploadHost, l *uploadLane){
		"out of order":      func(_ *uploadHost, l *uploadLane) { l.chunk(1, chunks[1], testChunk) },
		"on another stream": func(p *uploadHost, _ *uploadLane) { p.streams[1].chunk(1, chunks[0], testChunk) },
		"twice":             func(_ *uploadHost, l *uploadLane) { l.chunk(1, chunks[0], testChunk); l.chunk(1, chunks[0], testChunk) },
		"behind a short one": func(_ *uploadHost, l *uploadLane) {
			c := treetest.Chunks(data[:5])[0]
			l.chunk(1, c, testChunk)
			l.chunk(1, chunks[1], testChunk)
		},
		"empty behind a chunk": func(_ *uploadHost, l *uploadLane) {
			l.chunk(1, chunks[0], testChunk)
			l.piece(1, testChunk, nil, protocol.DataLast|protocol.DataValue, tree.Value{1})
		},
		"longer than one chunk": func(_ *uploadHost, l *uploadLane) {
			l.piece(1, 0, data[:testChunk-1], 0, tree.Value{})
			l.piece(1, testChunk-1, data[:2], 0, tree.Value{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 2, func(t *testing.T, p *uploadHost) {
				u := treetest.Upload("f", data)
				u.Size = -1
				l := p.streams[0]
				l.begin(1, u)
				send(p, l)
				m, _ := l.answer(1)
				wantFail(t, m, protocol.CodeWrongOffset)
			})
		})
	}
}

var errDisk = errors.New("the disk is on fire")

func TestUploadsThatDoNotBegin(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		size int64
		code protocol.Code
	}{
		"odd":       {errDisk, 5, protocol.CodeFailure},
		"busy":      {fmt.Errorf("begin: %w", tree.ErrBusy), 5, protocol.CodeBusy},
		"too large": {nil, 1 << 62, protocol.CodeTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 1, func(t *testing.T, p *uploadHost) {
				p.sink.onBegin = func(context.Context) error { return tt.err }
				u := treetest.Upload("f", []byte("12345"))
				u.Size = tt.size
				l := p.streams[0]
				l.say(1, beginToWire(u, 0))
				l.piece(1, 0, []byte("1"), 0, tree.Value{})
				l.say(1, &protocol.Commit{})
				wantFail(t, l.hear(1), tt.code)
				if _, ok := p.freed.Load(uint64(1)); !ok {
					t.Error("its id was not freed before the answer")
				}
			})
		})
	}
}
