package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"sync"

	"transferd/internal/tree"
)

// A writer is one upload: a partial beside its target, and for what can be
// resumed a journal of what of it is durable.
type writer struct {
	s         *Store
	hub       *hub
	u         tree.Upload
	at        place  // of the final name; owned
	stem      string // of the partial's and the journal's names
	key       claimKey
	claim     *claim       // nil in place
	part      *os.File     // locked
	journal   *journalFile // nil: nothing is kept for a later run
	inPlace   bool         // part is the final name itself
	fresh     bool         // part was empty: what was not written reads as zeros
	published bool         // part has the final name

	gate    *gate
	done    chan struct{} // closed when everything is let go
	flushed chan struct{} // closed by flushLoop; nil without a journal

	flushing sync.Mutex // one batch at a time
	dirDone  bool       // guarded by flushing: the names are durable

	// writing serializes writes: the system lets one at a time into a file
	// anyway, and makes the others burn their time until it is their turn.
	writing sync.Mutex

	mu       sync.Mutex
	chunks   map[int64]chunkState
	pending  []record      // written, to be made durable and recorded
	again    []int64       // came a second time, to be announced once more
	batch    int64         // bytes of pending
	unsynced int64         // bytes taken and not yet durable
	room     chan struct{} // closed and made anew when unsynced shrinks
	fault    error         // why nothing more is taken or recorded

	first chan struct{} // size 1: pending is no longer empty
	full  chan struct{} // size 1: pending is a whole batch
}

// A chunkState is what the writer knows of one chunk.
type chunkState struct {
	value    tree.Value
	size     int64
	recorded bool // the journal has it
	kept     bool // from an earlier run
	checked  bool // kept, and read again in this run
	writing  bool // being replaced, or found bad: what lies there is nothing
}

func (w *writer) partName() string { return w.stem + partSuffix }

func (w *writer) fail(op string, err error) error { return w.s.fail(op, w.u.Path, err) }

// Have yields the chunks that earlier runs made durable.
func (w *writer) Have() iter.Seq2[int64, tree.Value] {
	if w.journal == nil {
		return func(func(int64, tree.Value) bool) {}
	}
	return w.journal.Have()
}

// Unchanged reports whether all of Have is of the same source.
func (w *writer) Unchanged() bool { return w.journal != nil && w.journal.Unchanged() }

// WriteChunk writes a chunk and leaves the rest to the flusher. It blocks
// while too much is not yet durable.
func (w *writer) WriteChunk(ctx context.Context, c tree.Chunk) error {
	if err := w.gate.enter(); err != nil {
		return w.fail("write", err)
	}
	defer w.gate.leave()
	x, err := w.check(c)
	if err != nil {
		return w.fail("write", err)
	}
	if w.repeated(c) {
		return nil
	}
	size := int64(len(c.Data))
	if err := w.reserve(ctx, size); err != nil {
		return w.fail("write", err)
	}
	clean, err := w.claimChunk(c.Index)
	if err == nil {
		err = w.put(c, x, clean)
	}
	if err != nil {
		w.unreserve(size)
		return w.fail("write", w.diskFull(err))
	}
	w.written(c, size)
	return nil
}

// check returns the extent of c.
func (w *writer) check(c tree.Chunk) (tree.Extent, error) {
	x := tree.Extent{Offset: c.Index * w.u.ChunkSize, Length: int64(len(c.Data))}
	switch {
	case c.Index < 0 || c.Index > (1<<62)/w.u.ChunkSize:
		return x, fmt.Errorf("%w: chunk %d", fs.ErrInvalid, c.Index)
	case c.Value == tree.Value{}:
		return x, fmt.Errorf("%w: chunk %d has no value", fs.ErrInvalid, c.Index)
	case w.u.Size < 0:
		if x.Length > w.u.ChunkSize {
			return x, fmt.Errorf("%w: chunk %d of %d bytes", fs.ErrInvalid, c.Index, x.Length)
		}
		return x, nil
	case c.Index >= tree.ChunkCount(w.u.Size, w.u.ChunkSize):
		return x, fmt.Errorf("%w: chunk %d is behind the end", fs.ErrInvalid, c.Index)
	}
	if want := tree.ChunkExtent(c.Index, w.u.Size, w.u.ChunkSize); x != want {
		return x, fmt.Errorf("%w: chunk %d of %d bytes, not %d", fs.ErrInvalid, c.Index, x.Length, want.Length)
	}
	return x, nil
}

// repeated reports whether this run has c already, as it is: a stream was lost
// before its acknowledgement, and c was sent again on another. It is announced
// once more with the next batch.
func (w *writer) repeated(c tree.Chunk) bool {
	if w.journal == nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	st, known := w.chunks[c.Index]
	if !known || w.fault != nil || st.writing || (st.kept && !st.checked) || st.value != c.Value || st.size != int64(len(c.Data)) {
		return false
	}
	w.again = append(w.again, c.Index)
	signal(w.first)
	return true
}

// reserve waits until n bytes more may be taken.
func (w *writer) reserve(ctx context.Context, n int64) error {
	if w.journal == nil {
		return ctx.Err()
	}
	for {
		w.mu.Lock()
		if w.fault != nil {
			defer w.mu.Unlock()
			return w.fault
		}
		if w.unsynced == 0 || w.unsynced+n <= w.hub.tuning.maxPending {
			w.unsynced += n
			w.mu.Unlock()
			return ctx.Err()
		}
		room := w.room
		w.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		case <-w.gate.stop:
			return w.gate.reason()
		}
	}
}

func (w *writer) unreserve(n int64) {
	if w.journal == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unsynced -= n
	close(w.room)
	w.room = make(chan struct{})
}

// claimChunk takes chunk i out of what is known, for its bytes will change. It
// reports whether its place still reads as zeros.
func (w *writer) claimChunk(i int64) (clean bool, err error) {
	w.mu.Lock()
	st, known := w.chunks[i]
	w.mu.Unlock()
	if known && !st.recorded && w.journal != nil {
		// Written in this run, perhaps in the batch that is being recorded: let
		// that end, so that its record cannot come after the new bytes.
		if err := w.flush(); err != nil {
			return false, err
		}
	}
	w.mu.Lock()
	st = w.chunks[i]
	w.chunks[i] = chunkState{writing: true}
	w.mu.Unlock()
	if st.recorded {
		// Before the bytes change: neither a kill nor a power cut in the middle
		// must leave the old value on record.
		if err := w.journal.forget([]int64{i}, w.u.Fsync != tree.FsyncOff); err != nil {
			return false, err
		}
	}
	return w.fresh && !known, nil
}

// put writes the data of c and makes the rest of its extent x a hole.
func (w *writer) put(c tree.Chunk, x tree.Extent, clean bool) error {
	if c.Extents == nil {
		return w.write(c.Data, x.Offset)
	}
	pos := x.Offset
	zero := func(to int64) error {
		if clean || to <= pos {
			return nil
		}
		return w.zero(tree.Extent{Offset: pos, Length: to - pos})
	}
	for _, d := range x.Clip(c.Extents) {
		if err := zero(d.Offset); err != nil {
			return err
		}
		if err := w.write(c.Data[d.Offset-x.Offset:d.End()-x.Offset], d.Offset); err != nil {
			return err
		}
		pos = d.End()
	}
	return zero(x.End())
}

func (w *writer) write(data []byte, off int64) error {
	if err := w.hub.before(step{op: stepWrite, dir: w.at.dir, name: w.partName(), off: off, data: data}); err != nil {
		return err
	}
	w.writing.Lock()
	defer w.writing.Unlock()
	_, err := w.hub.sys.write(w.part, data, off)
	return err
}

// zero makes x read as zeros: a hole where the filesystem has holes, zeros
// elsewhere.
func (w *writer) zero(x tree.Extent) error {
	if err := w.hub.before(step{op: stepZero, dir: w.at.dir, name: w.partName(), off: x.Offset, size: x.Length}); err != nil {
		return err
	}
	err := w.hub.sys.punch(w.part, x)
	if !isUnsupported(err) {
		return err
	}
	e, err := fileEntry(w.part, "")
	if err != nil {
		return err
	}
	zeros := make([]byte, min(x.Length, 1<<20))
	for pos, end := x.Offset, min(x.End(), e.Size); pos < end; {
		n := min(int64(len(zeros)), end-pos)
		if _, err := w.hub.sys.write(w.part, zeros[:n], pos); err != nil {
			return err
		}
		pos += n
	}
	return nil
}

// written takes the chunk into the next batch.
func (w *writer) written(c tree.Chunk, size int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.chunks[c.Index] = chunkState{value: c.Value, size: size}
	if w.journal == nil {
		return
	}
	w.pending = append(w.pending, record{kind: recordDurable, index: c.Index, value: c.Value})
	w.batch += size
	signal(w.first)
	if w.batch >= w.hub.tuning.batchBytes || w.unsynced+w.u.ChunkSize > w.hub.tuning.maxPending {
		signal(w.full)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// diskFull adds to an error about a full disk which disk it is.
func (w *writer) diskFull(err error) error { return w.s.diskFull(w.at.dir, w.u.Path, err) }

// diskFull is for an error of writing p, which lies in d.
func (s *Store) diskFull(d *dir, p tree.Path, err error) error {
	if errors.Is(err, tree.ErrNoSpace) || errors.Is(err, tree.ErrQuota) {
		return err // it says so already
	}
	is := classify(err)
	if !errors.Is(is, tree.ErrNoSpace) && !errors.Is(is, tree.ErrQuota) {
		return err
	}
	disk := "the disk of directory " + s.at.Append(p.Parent()).String()
	if s.where == "" { // of a confined tree nobody learns where it lies
		if id, ierr := d.id(); ierr == nil {
			disk = cmp.Or(mountPoint(id.dev), disk)
		}
	}
	return fmt.Errorf("%w: %s", meaning{explain(err), is}, disk)
}
