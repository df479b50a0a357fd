package native

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"testing"

	"transferd/internal/tree"
)

// A memSink is where uploads begin in tests. It keeps partials and files in
// memory, holds the server to the contract of a Writer, and fails or waits where
// it is told to.
type memSink struct {
	t       *testing.T
	journal bool // announces chunks, when flush is called or eager is set
	eager   bool // every chunk is durable at once

	onBegin func(ctx context.Context) error
	onWrite func(ctx context.Context, c tree.Chunk) error
	onCheck func(ctx context.Context) error // in Recheck, before the first chunk
	onEnd   func(op string) error

	mu       sync.Mutex
	files    map[tree.Path][]byte
	partials map[string]map[int64]memChunk
	writers  []*memWriter
}

type memChunk struct {
	data  []byte
	value tree.Value
	holes bool
	bad   bool // what is on the disk has rotted
}

type memWriter struct {
	s   *memSink
	u   tree.Upload
	key string

	mu      sync.Mutex
	kept    map[int64]memChunk
	durable map[int64]memChunk
	pending []int64
	chunks  map[int64]memChunk
	busy    map[int64]bool
	running int
	ended   string
	order   []int64
}

func newMemSink(t *testing.T) *memSink {
	t.Helper()
	return &memSink{t: t, journal: true, eager: true, files: map[tree.Path][]byte{}, partials: map[string]map[int64]memChunk{}}
}

func (s *memSink) Begin(ctx context.Context, u tree.Upload) (tree.Writer, error) {
	if s.onBegin != nil {
		if err := s.onBegin(ctx); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := fmt.Sprint(u.Origin, "\x00", u.Path)
	w := &memWriter{s: s, u: u, key: key, durable: map[int64]memChunk{}, chunks: map[int64]memChunk{}, busy: map[int64]bool{}}
	if u.Resume {
		w.kept = maps.Clone(s.partials[key])
		maps.Copy(w.durable, w.kept)
		maps.Copy(w.chunks, w.kept)
	}
	s.writers = append(s.writers, w)
	if s.journal {
		u.Durable(nil)
	}
	return w, nil
}

// open returns how many writers were not ended.
func (s *memSink) open() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.writers {
		w.mu.Lock()
		if w.ended == "" {
			n++
		}
		w.mu.Unlock()
	}
	return n
}

func (s *memSink) last() *memWriter {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writers[len(s.writers)-1]
}

func (s *memSink) file(p tree.Path) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.files[p]
	return b, ok
}

func (s *memSink) partial(u tree.Upload) map[int64]memChunk {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.partials[fmt.Sprint(u.Origin, "\x00", u.Path)]
}

func (w *memWriter) Have() iter.Seq2[int64, tree.Value] {
	return func(yield func(int64, tree.Value) bool) {
		for i, c := range w.kept { // in any order, on purpose
			if !yield(i, c.value) {
				return
			}
		}
	}
}

func (w *memWriter) Unchanged() bool { return len(w.kept) > 0 }

func (w *memWriter) enter() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended != "" {
		w.s.t.Errorf("a call after %s", w.ended)
	}
	w.running++
}

func (w *memWriter) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running--
}

func (w *memWriter) Recheck(ctx context.Context, bad func(index int64)) error {
	w.enter()
	defer w.leave()
	if w.s.onCheck != nil {
		if err := w.s.onCheck(ctx); err != nil {
			return err
		}
	}
	for _, i := range slices.Sorted(maps.Keys(w.kept)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		w.mu.Lock()
		c := w.chunks[i]
		if c.bad {
			delete(w.chunks, i)
			delete(w.durable, i)
		}
		w.mu.Unlock()
		if c.bad {
			bad(i)
		}
	}
	return nil
}

func (w *memWriter) WriteChunk(ctx context.Context, c tree.Chunk) error {
	w.enter()
	defer w.leave()
	w.mu.Lock()
	if w.busy[c.Index] {
		w.s.t.Errorf("chunk %d is written twice at once", c.Index)
	}
	w.busy[c.Index] = true
	w.mu.Unlock()
	var err error
	if w.s.onWrite != nil {
		err = w.s.onWrite(ctx, c)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy[c.Index] = false
	if err != nil {
		return err
	}
	delete(w.durable, c.Index)
	w.chunks[c.Index] = memChunk{data: slices.Clone(c.Data), value: c.Value, holes: c.Extents != nil}
	w.order = append(w.order, c.Index)
	w.pending = append(w.pending, c.Index)
	if w.s.eager {
		w.flushLocked()
	}
	return nil
}

// flush makes durable what was written.
func (w *memWriter) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flushLocked()
}

func (w *memWriter) flushLocked() {
	list := w.pending
	w.pending = nil
	for _, i := range list {
		w.durable[i] = w.chunks[i]
	}
	if len(list) > 0 && w.s.journal && w.u.Fsync != tree.FsyncOff {
		w.u.Durable(list)
	}
}

// end ends the writer, once.
func (w *memWriter) end(op string) error {
	var err error
	if w.s.onEnd != nil {
		err = w.s.onEnd(op)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended != "" {
		w.s.t.Errorf("%s after %s", op, w.ended)
	}
	if w.running > 0 {
		w.s.t.Errorf("%s while %d calls are running", op, w.running)
	}
	w.flushLocked()
	w.ended = cmp.Or(op)
	return err
}

func (w *memWriter) Commit(ctx context.Context, f tree.Final) (tree.Receipt, error) {
	err := w.end("commit")
	if err == nil {
		err = ctx.Err()
	}
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	var data []byte
	for i := range tree.ChunkCount(f.Size, w.u.ChunkSize) {
		c, ok := w.chunks[i]
		if !ok {
			c.data = make([]byte, tree.ChunkExtent(i, f.Size, w.u.ChunkSize).Length)
		}
		if c.bad {
			err = errors.Join(err, tree.ErrIntegrity)
		}
		data = append(data, c.data...)
	}
	if err != nil {
		w.s.partials[w.key] = w.durable
		return tree.Receipt{}, err
	}
	if int64(len(data)) != f.Size {
		w.s.t.Errorf("committed %d bytes, not %d", len(data), f.Size)
	}
	w.s.files[w.u.Path] = data
	delete(w.s.partials, w.key)
	return tree.Receipt{Verified: tree.VerifiedDigest, Volatile: w.u.Fsync == tree.FsyncOff}, nil
}

func (w *memWriter) Suspend(context.Context) error {
	err := w.end("suspend")
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.s.partials[w.key] = w.durable
	return err
}

func (w *memWriter) Abort(context.Context) error {
	err := w.end("abort")
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	delete(w.s.partials, w.key)
	return err
}
