package native

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"transferd/internal/testnet"
	"transferd/internal/tree"
	"transferd/protocol"
)

const mib = 1 << 20

// chunksOf cuts data into chunks of 1 MiB.
func chunksOf(data []byte) []tree.Chunk {
	var all []tree.Chunk
	count := tree.ChunkCount(int64(len(data)), mib)
	for i := range count {
		e := tree.ChunkExtent(i, int64(len(data)), mib)
		part := data[e.Offset : e.Offset+e.Length]
		all = append(all, tree.Chunk{Index: i, Data: part, Value: tree.ChunkValue(part, i, mib, count == 1)})
	}
	return all
}

func finalOf(size int64, chunks []tree.Chunk) tree.Final {
	f := tree.Final{Size: size, HasDigest: true}
	for _, c := range chunks {
		f.Values = append(f.Values, c.Value)
	}
	f.Digest = tree.MergeValues(f.Values)
	return f
}

func begin(t *testing.T, c *Client, size int64) tree.Writer {
	t.Helper()
	w, err := c.Begin(t.Context(), tree.Upload{Path: "f", Size: size, ChunkSize: mib, Resume: true})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// writeAll writes chunks from several goroutines.
func writeAll(ctx context.Context, w tree.Writer, chunks []tree.Chunk) error {
	var group sync.WaitGroup
	errs := make([]error, len(chunks))
	turns := make(chan struct{}, 8)
	for i, c := range chunks {
		group.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			errs[i] = w.WriteChunk(ctx, c)
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

func TestUploadArrives(t *testing.T) {
	for _, size := range []int{0, 1, mib, mib + 1, 20*mib + 12345} {
		for _, streams := range []uint32{1, 4} {
			t.Run(fmt.Sprintf("%d bytes, %d streams", size, streams), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := newUploadPeer(t)
					p.streams = streams
					c := p.client(ClientOptions{Streams: int(streams)})
					defer p.close(c)
					data := noise(size)
					chunks := chunksOf(data)
					w := begin(t, c, int64(size))
					if err := writeAll(t.Context(), w, chunks); err != nil {
						t.Fatal(err)
					}
					r, err := w.Commit(t.Context(), finalOf(int64(size), chunks))
					if err != nil || r.Verified != tree.VerifiedDigest {
						t.Fatal(r, err)
					}
					p.mu.Lock()
					defer p.mu.Unlock()
					var got []byte
					for _, u := range p.uploads {
						for _, i := range slices.Sorted(maps.Keys(u.chunks)) {
							got = append(got, u.chunks[i]...)
						}
					}
					if !bytes.Equal(got, data) {
						t.Error("what arrived differs")
					}
				})
			})
		}
	}
}

func TestStreamsAreAddedWhileAllAreBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newUploadPeer(t)
		p.streams, p.window = 8, 64*mib
		p.onConn = func(_ uint32, conn *testnet.Conn) { conn.Slow(mib, 20*time.Millisecond) }
		c := p.client(ClientOptions{})
		defer p.close(c)
		<-time.After(time.Minute)
		if n := len(c.Describe(t.Context())); n != 1 {
			t.Errorf("%d streams of an idle session", n)
		}
		data := noise(60 * mib)
		chunks := chunksOf(data)
		w := begin(t, c, int64(len(data)))
		if err := writeAll(t.Context(), w, chunks); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Commit(t.Context(), finalOf(int64(len(data)), chunks)); err != nil {
			t.Fatal(err)
		}
		if n := len(c.Describe(t.Context())); n < 5 || n > farStreams {
			t.Errorf("%d streams of a long line where each one helps", n)
		}
	})
}

func TestOneStreamThatDoesNotHelpIsTheLast(t *testing.T) {
	var p progress
	n := 1
	for range 1000 {
		p.sent, p.busy = 10e6, p.busy+1
		p.since++
		n = p.wants(n, time.Millisecond)
	}
	if n != 2 {
		t.Errorf("%d streams where the second did not help", n)
	}
}

func TestWindowsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newUploadPeer(t)
		p.hold = true
		c := p.client(ClientOptions{})
		defer p.close(c)
		data := noise(12 * mib)
		w := begin(t, c, int64(len(data)))
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() {
			if err := writeAll(ctx, w, chunksOf(data)); !errors.Is(err, context.Canceled) {
				t.Errorf("WriteChunk = %v", err)
			}
		})
		synctest.Wait()
		p.mu.Lock()
		if p.unacked != protocol.MinWindow {
			t.Errorf("%d bytes under way, want the window", p.unacked)
		}
		id := slices.Collect(maps.Keys(p.uploads))[0]
		p.unacked -= 2 * mib
		for i := range uint64(12) {
			if _, ok := p.uploads[id].values[i]; ok { // the first two that came
				_ = p.control.post(id, &protocol.Ack{Ranges: []protocol.Range{{First: i, Count: 1}}})
				if p.bad = append(p.bad, i); len(p.bad) == 2 {
					break
				}
			}
		}
		p.mu.Unlock()
		synctest.Wait()
		p.mu.Lock()
		if p.unacked != protocol.MinWindow {
			t.Errorf("%d bytes under way after an ACK, want the window", p.unacked)
		}
		p.mu.Unlock()
		cancel()
		group.Wait()
		if err := w.Suspend(t.Context()); err != nil {
			t.Error(err)
		}
		sess, _ := c.session(t.Context())
		if !sess.room.TryAcquire(protocol.MinWindow) {
			t.Error("the window of the session is not free again")
		}
	})
}

func TestDurableHearsOfAcknowledgedChunks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newUploadPeer(t)
		c := p.client(ClientOptions{})
		defer p.close(c)
		data := noise(5 * mib)
		var heard []int64
		w, err := c.Begin(t.Context(), tree.Upload{
			Path: "f", Size: int64(len(data)), ChunkSize: mib,
			Durable: func(chunks []int64) { heard = append(heard, chunks...) },
		})
		if err != nil {
			t.Fatal(err)
		}
		chunks := chunksOf(data)
		if err := writeAll(t.Context(), w, chunks); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Commit(t.Context(), finalOf(int64(len(data)), chunks)); err != nil {
			t.Fatal(err)
		}
		slices.Sort(heard)
		if !slices.Equal(heard, []int64{0, 1, 2, 3, 4}) {
			t.Errorf("durable are %v", heard)
		}
	})
}

func TestUploadGoesOnWhereItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newUploadPeer(t)
		data := noise(5 * mib)
		chunks := chunksOf(data)
		p.have = map[uint64]protocol.Value{1: protocol.Value(chunks[1].Value), 3: protocol.Value(chunks[3].Value)}
		p.bad = []uint64{3}
		c := p.client(ClientOptions{})
		defer p.close(c)
		w := begin(t, c, int64(len(data)))
		have := maps.Collect(w.Have())
		if len(have) != 2 || have[1] != chunks[1].Value || have[3] != chunks[3].Value || !w.Unchanged() {
			t.Errorf("Have = %v, unchanged %v", have, w.Unchanged())
		}
		var bad []int64
		if err := w.Recheck(t.Context(), func(i int64) { bad = append(bad, i) }); err != nil || !slices.Equal(bad, []int64{3}) {
			t.Errorf("Recheck = %v, bad %v", err, bad)
		}
		rest := []tree.Chunk{chunks[0], chunks[2], chunks[4], chunks[3]}
		if err := writeAll(t.Context(), w, rest); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Commit(t.Context(), finalOf(int64(len(data)), chunks)); err != nil {
			t.Error(err)
		}
	})
}

func TestRecheckStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newUploadPeer(t)
		p.have = map[uint64]protocol.Value{0: {1}}
		p.hold = true
		c := p.client(ClientOptions{})
		defer p.close(c)
		w := begin(t, c, 3*mib)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.Recheck(ctx, func(int64) {}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Recheck = %v", err)
		}
		synctest.Wait()
		if !p.seen(protocol.TypeCancel) {
			t.Error("no CANCEL was sent")
		}
		if err := w.Abort(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestHolesAndCompression(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newUploadPeer(t)
		p.zstd = true
		c := p.client(ClientOptions{Compress: CompressAlways})
		defer p.close(c)
		data := make([]byte, 3*mib)
		copy(data[100_000:], bytes.Repeat([]byte("text "), 40_000))
		copy(data[2*mib+5000:], noise(5000))
		chunks := chunksOf(data)
		chunks[0].Extents = []tree.Extent{{Offset: 100_000, Length: 100_000}, {Offset: 250_000, Length: 50_000}}
		copy(chunks[0].Data[200_000:250_000], make([]byte, 50_000))
		chunks[0].Value = tree.ChunkValue(chunks[0].Data, 0, mib, false)
		chunks[1].Extents = []tree.Extent{}
		chunks[2].Extents = []tree.Extent{{Offset: mib, Length: 10}, {Offset: 2*mib + 5000, Length: 5000}, {Offset: 3*mib - 10, Length: 50}}
		w := begin(t, c, int64(len(data)))
		if err := writeAll(t.Context(), w, chunks); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Commit(t.Context(), finalOf(int64(len(data)), chunks)); err != nil {
			t.Fatal(err)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.wire > 20_000 {
			t.Errorf("%d bytes of payload travelled", p.wire)
		}
	})
}

func TestErrorsOfUploads(t *testing.T) {
	fail := func(code protocol.Code) protocol.Message { return &protocol.Fail{Code: code, Message: "no"} }
	for _, x := range []struct {
		name   string
		at     protocol.Type
		answer protocol.Message
		want   error
	}{
		{"begin", protocol.TypeBegin, fail(protocol.CodeTakenOver), tree.ErrTakenOver},
		{"commit", protocol.TypeCommit, fail(protocol.CodeIntegrity), tree.ErrIntegrity},
		{"suspend is what the server did already", protocol.TypeSuspend, fail(protocol.CodeNoSpace), nil},
		{"nonsense for an answer", protocol.TypeBegin, &protocol.Summed{}, tree.ErrLost},
		{"committed too early", protocol.TypeBegin, &protocol.Committed{}, tree.ErrLost},
		{"more had than there is", protocol.TypeBegin, &protocol.Begun{Window: protocol.MinWindow, Chunks: 100}, tree.ErrLost},
	} {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newUploadPeer(t)
				p.answer = map[protocol.Type]protocol.Message{x.at: x.answer}
				c := p.client(ClientOptions{})
				defer p.close(c)
				data := noise(2 * mib)
				chunks := chunksOf(data)
				w, err := c.Begin(t.Context(), tree.Upload{Path: "f", Size: int64(len(data)), ChunkSize: mib})
				if err == nil {
					err = writeAll(t.Context(), w, chunks)
				}
				if err == nil && x.at == protocol.TypeSuspend {
					err = w.Suspend(t.Context())
				} else if err == nil {
					_, err = w.Commit(t.Context(), finalOf(int64(len(data)), chunks))
				}
				if !errors.Is(err, x.want) {
					t.Errorf("error is %v, want %v", err, x.want)
				}
			})
		})
	}
}

func TestCommitCanBeCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newUploadPeer(t)
		p.hold = true
		c := p.client(ClientOptions{})
		defer p.close(c)
		data := noise(mib)
		chunks := chunksOf(data)
		w := begin(t, c, mib)
		if err := writeAll(t.Context(), w, chunks); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if _, err := w.Commit(ctx, finalOf(mib, chunks)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Commit = %v", err)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("Commit took %v", took)
		}
	})
}

// What fits no frame is never answered, and not waited for.
func TestCommitThatCannotBeSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newUploadPeer(t)
		c := p.client(ClientOptions{})
		defer p.close(c)
		chunks := chunksOf(noise(mib))
		w := begin(t, c, mib)
		if err := writeAll(t.Context(), w, chunks); err != nil {
			t.Fatal(err)
		}
		f := finalOf(mib, chunks)
		for i := range 20 {
			f.Attr.Xattrs = append(f.Attr.Xattrs, tree.Xattr{Name: fmt.Sprintf("user.%02d", i), Value: make([]byte, protocol.MaxXattr)})
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		began := time.Now()
		if _, err := w.Commit(ctx, f); err == nil || errors.Is(err, tree.ErrLost) || time.Since(began) > time.Second {
			t.Errorf("Commit = %v, after %v", err, time.Since(began))
		} else {
			t.Log(err)
		}
		// The session goes on.
		w = begin(t, c, mib)
		if err := w.Suspend(ctx); err != nil {
			t.Errorf("Suspend = %v", err)
		}
	})
}

func TestALostControlStreamEndsUploads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newUploadPeer(t)
		p.hold = true
		c := p.client(ClientOptions{})
		defer p.close(c)
		data := noise(20 * mib)
		w := begin(t, c, int64(len(data)))
		var group sync.WaitGroup
		group.Go(func() {
			if err := writeAll(t.Context(), w, chunksOf(data)); !errors.Is(err, tree.ErrLost) {
				t.Errorf("WriteChunk = %v", err)
			}
		})
		synctest.Wait()
		p.conns[0].Cut()
		group.Wait()
		if err := w.Suspend(t.Context()); !errors.Is(err, tree.ErrLost) {
			t.Errorf("Suspend = %v", err)
		}
		again := begin(t, c, int64(len(data))) // on a new session
		if err := again.Abort(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A joined stream is lost: what was sent on it and not acknowledged is gone, and
// only the engine has it still.
func TestALostStreamWithChunksNotAcknowledgedIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newUploadPeer(t)
		p.streams, p.window, p.hold = 2, 64*mib, true
		c := p.client(ClientOptions{Streams: 2})
		defer p.close(c)
		sess, err := c.session(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := sess.join(t.Context()); err != nil {
			t.Fatal(err)
		}
		data := noise(8 * mib)
		chunks := chunksOf(data)
		w := begin(t, c, int64(len(data)))
		if err := writeAll(t.Context(), w, chunks); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		p.mu.Lock()
		if p.perLane[1] == 0 {
			t.Error("nothing went over the joined stream")
		}
		p.mu.Unlock()
		p.conns[1].Cut()
		synctest.Wait()
		if _, err := w.Commit(t.Context(), finalOf(int64(len(data)), chunks)); !errors.Is(err, tree.ErrLost) {
			t.Errorf("Commit = %v", err)
		}
		p.mu.Lock()
		unfinished := slices.Contains(p.requests, protocol.TypeCommit)
		p.mu.Unlock()
		if unfinished {
			t.Error("COMMIT was sent although chunks are lost")
		}
	})
}

func TestAChunkThatIsCutOffGoesAnotherWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newUploadPeer(t)
		p.streams, p.window = 2, 64*mib
		p.onConn = func(number uint32, conn *testnet.Conn) {
			if number == 1 {
				conn.CutAfter(mib/2 + 777)
			}
		}
		c := p.client(ClientOptions{Streams: 2})
		defer p.close(c)
		sess, err := c.session(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := sess.join(t.Context()); err != nil {
			t.Fatal(err)
		}
		data := noise(8 * mib)
		chunks := chunksOf(data)
		w := begin(t, c, int64(len(data)))
		if err := writeAll(t.Context(), w, chunks); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Commit(t.Context(), finalOf(int64(len(data)), chunks)); err != nil {
			t.Error(err)
		}
	})
}

func TestAStalledUploadIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newUploadPeer(t)
		c := p.client(ClientOptions{})
		defer p.close(c)
		data := noise(20 * mib)
		w := begin(t, c, int64(len(data)))
		p.conns[0].Stall()
		began := time.Now()
		if err := writeAll(t.Context(), w, chunksOf(data)); !errors.Is(err, tree.ErrLost) {
			t.Errorf("WriteChunk = %v", err)
		}
		if took := time.Since(began); took > 2*protocol.DeadAfter*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestAbortThrowsAwayWhatTheServerSuspended(t *testing.T) {
	for code, times := range map[protocol.Code]int{protocol.CodeQuota: 2, protocol.CodeTakenOver: 1} {
		synctest.Test(t, func(t *testing.T) {
			p := newUploadPeer(t)
			p.answer = map[protocol.Type]protocol.Message{protocol.TypeRecheck: &protocol.Fail{Code: code}}
			p.have = map[uint64]protocol.Value{0: {1}}
			c := p.client(ClientOptions{})
			defer p.close(c)
			w := begin(t, c, mib)
			if err := w.Recheck(t.Context(), func(int64) {}); err == nil {
				t.Error("no error")
			}
			if err := w.Abort(t.Context()); err != nil {
				t.Error(err)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			begun := 0
			for _, r := range p.requests {
				if r == protocol.TypeBegin {
					begun++
				}
			}
			if begun != times {
				t.Errorf("%v: begun %d times, want %d", code, begun, times)
			}
		})
	}
}

func TestOnlySlowLinksAreCompressedFor(t *testing.T) {
	for _, slow := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			p := newUploadPeer(t)
			p.zstd, p.window = true, 64*mib
			if slow {
				p.onConn = func(_ uint32, conn *testnet.Conn) { conn.Slow(2*mib, 10*time.Millisecond) }
			}
			c := p.client(ClientOptions{})
			defer p.close(c)
			data := bytes.Repeat([]byte("it was a dark and stormy night; "), 20*mib/32)
			chunks := chunksOf(data)
			w := begin(t, c, int64(len(data)))
			if err := writeAll(t.Context(), w, chunks); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Commit(t.Context(), finalOf(int64(len(data)), chunks)); err != nil {
				t.Fatal(err)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			if small := p.wire < int64(len(data)/2); small != slow {
				t.Errorf("slow %v: %d bytes travelled of %d", slow, p.wire, len(data))
			}
		})
	}
}
