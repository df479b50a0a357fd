package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"sync"
	"time"

	"transferd/internal/tree"
)

// A specialWriter writes into a device or FIFO, which is never renamed over.
// Nothing of it can be resumed or read back.
type specialWriter struct {
	s      *Store
	u      tree.Upload
	at     place
	f      *os.File
	stream bool // a byte after the other: no offsets

	gate *gate
	mu   sync.Mutex
	next int64         // index of the chunk whose turn it is
	turn chan struct{} // closed and made anew when next grows
}

// beginSpecial opens what is at a place without blocking on a FIFO that nobody
// reads yet: it looks again until ctx ends.
func (s *Store) beginSpecial(ctx context.Context, u tree.Upload, at place, kind tree.Kind) (tree.Writer, error) {
	w := &specialWriter{s: s, u: u, at: at, gate: newGate(), turn: make(chan struct{})}
	w.stream = kind == tree.KindFIFO || kind == tree.KindCharDevice
	switch {
	case !w.stream && kind != tree.KindBlockDevice:
		return nil, notRegular(kind, nil)
	case !s.isHost():
		return nil, notRegular(kind, nil) // no business of a confined login
	case w.stream && u.Sparse:
		return nil, fmt.Errorf("%w: a %v takes no holes", errors.ErrUnsupported, kind)
	}
	for {
		f, err := at.dir.open(at.name, os.O_WRONLY, 0, true)
		if err == nil {
			w.f = f
			return w, nil
		}
		if kind != tree.KindFIFO || !errors.Is(err, tree.ErrNotRegular) {
			return nil, err
		}
		t := time.NewTimer(s.hub.tuning.lockPoll)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, ctx.Err()
		case <-t.C:
		}
	}
}

func (w *specialWriter) fail(op string, err error) error { return w.s.fail(op, w.u.Path, err) }

func (w *specialWriter) Have() iter.Seq2[int64, tree.Value] {
	return func(func(int64, tree.Value) bool) {}
}

func (w *specialWriter) Unchanged() bool { return false }

func (w *specialWriter) Recheck(context.Context, func(int64)) error { return nil }

// WriteChunk writes at the chunk's offset, or into a stream when all chunks
// before it are written.
func (w *specialWriter) WriteChunk(ctx context.Context, c tree.Chunk) error {
	if err := w.gate.enter(); err != nil {
		return w.fail("write", err)
	}
	defer w.gate.leave()
	if !w.stream {
		_, err := w.f.WriteAt(c.Data, c.Index*w.u.ChunkSize)
		return w.fail("write", err)
	}
	for {
		w.mu.Lock()
		if w.next == c.Index {
			break
		}
		turn := w.turn
		w.mu.Unlock()
		select {
		case <-turn:
		case <-ctx.Done():
			return ctx.Err()
		case <-w.gate.stop:
			return w.fail("write", w.gate.reason())
		}
	}
	defer w.mu.Unlock()
	// Whoever reads a FIFO may do so never again.
	defer context.AfterFunc(ctx, func() { _ = w.f.SetWriteDeadline(time.Unix(1, 0)) })()
	n, err := w.f.Write(c.Data)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ctx.Err()
	}
	if err == nil && n < len(c.Data) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return w.fail("write", err)
	}
	w.next++
	close(w.turn)
	w.turn = make(chan struct{})
	return nil
}

func (w *specialWriter) Commit(context.Context, tree.Final) (tree.Receipt, error) {
	if err := w.gate.end(tree.ErrClosed); err != nil {
		return tree.Receipt{}, w.fail("commit", err)
	}
	var err error
	if !w.stream && w.u.Fsync != tree.FsyncOff {
		err = w.s.hub.sys.sync(w.f)
	}
	return tree.Receipt{Verified: tree.VerifiedDigest, Volatile: w.stream || w.u.Fsync == tree.FsyncOff}, w.fail("commit", errors.Join(err, w.close()))
}

func (w *specialWriter) Suspend(context.Context) error { return w.end("suspend") }
func (w *specialWriter) Abort(context.Context) error   { return w.end("abort") }

func (w *specialWriter) end(op string) error {
	if err := w.gate.end(tree.ErrClosed); err != nil {
		return w.fail(op, err)
	}
	return w.fail(op, w.close())
}

func (w *specialWriter) close() error { return errors.Join(w.f.Close(), w.at.dir.Close()) }
