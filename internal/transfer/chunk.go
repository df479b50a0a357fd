package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"transferd/internal/tree"
)

const (
	// fileChunks is how many chunks of one file are in flight: enough to fill
	// four connections of 2 MiB windows with chunks of 1 MiB.
	fileChunks = 12

	// hashedHoles bounds the zeros that are hashed to give a sparse file its
	// BLAKE3 root; beyond it the extents and data chunks alone are checked.
	hashedHoles = 1 << 30
)

// A file is one file on its way: a job, and how far it has come.
type file struct {
	job
	c  *copier
	id int64

	// state of the whole run
	sent, resumed atomic.Int64
	moved         atomic.Int64 // bytes read or written, for retry
	credited      []bool       // chunks that events have counted; each index is used by one goroutine at a time
	committing    bool

	// state of one attempt
	size, chunk int64
	extents     []tree.Extent // of the source's data; nil: not known
	values      []tree.Value
	kept        []bool // chunks taken over from earlier runs

	// result
	digest    tree.Digest
	hasDigest bool
	receipt   tree.Receipt

	mu  sync.Mutex // guards bad
	bad []int64    // kept chunks that Recheck found wrong
}

func newFile(c *copier, j job) *file {
	return &file{c: c, job: j, id: c.ids.Add(1)}
}

// reset prepares an attempt at what the source is now.
func (f *file) reset(ctx context.Context, r tree.Reader) error {
	f.size = f.entry.Size
	f.chunk = tree.ChunkSizeFor(f.size)
	n := tree.ChunkCount(f.size, f.chunk)
	f.values = make([]tree.Value, n)
	f.kept = make([]bool, n)
	if int64(len(f.credited)) != n {
		f.credited = make([]bool, n)
	}
	f.bad, f.extents, f.hasDigest = nil, nil, false
	x, ok := r.(tree.ExtentReader)
	if !ok || f.c.opt.NoSparse {
		return nil
	}
	extents, err := x.Extents(ctx)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return err
	}
	if extents == nil {
		extents = []tree.Extent{}
	}
	f.extents = extents
	return nil
}

// sparse reports whether the copy may get holes.
func (f *file) sparse() bool {
	if f.c.opt.NoSparse {
		return false
	}
	return f.extents == nil || payload(f.size, f.extents) < f.size
}

// fill brings to w every chunk that it does not have. Beside that w reads again
// what it has kept, and what turns out wrong there is brought once more.
func (f *file) fill(ctx context.Context, r tree.Reader, w tree.Writer) error {
	have := map[int64]tree.Value{}
	for i, v := range w.Have() {
		if i >= 0 && i < int64(len(f.values)) {
			have[i] = v
		}
	}
	trusted := w.Unchanged() && f.c.opt.Verify == tree.VerifyFast
	var todo []int64
	for i := range int64(len(f.values)) {
		v, ok := have[i]
		switch {
		case ok && trusted:
			f.keep(i, v)
		case !ok && w.Unchanged() && f.isHole(i):
			f.credit(i, tree.ChunkExtent(i, f.size, f.chunk).Length, creditHole)
		default:
			todo = append(todo, i)
		}
	}
	group, gctx := errgroup.WithContext(ctx)
	if trusted && len(have) > 0 {
		group.Go(func() error { return w.Recheck(gctx, f.markBad) })
	}
	f.sendAll(gctx, group, r, w, todo, have)
	if err := group.Wait(); err != nil {
		return err
	}
	if !trusted && len(have) > 0 {
		if err := w.Recheck(ctx, f.markBad); err != nil {
			return err
		}
	}
	again := f.badChunks()
	group, gctx = errgroup.WithContext(ctx)
	f.sendAll(gctx, group, r, w, again, nil)
	return group.Wait()
}

// sendAll starts goroutines in group that send the chunks of todo. A chunk whose
// source has the value that have says is kept instead.
func (f *file) sendAll(ctx context.Context, group *errgroup.Group, r tree.Reader, w tree.Writer, todo []int64, have map[int64]tree.Value) {
	var next atomic.Int64
	for range min(fileChunks, len(todo)) {
		group.Go(func() error {
			for {
				at := next.Add(1) - 1
				if at >= int64(len(todo)) {
					return nil
				}
				if err := f.send(ctx, r, w, todo[at], have); err != nil {
					return err
				}
			}
		})
	}
}

// send reads chunk i of the source and, unless the other side has it, writes it.
func (f *file) send(ctx context.Context, r tree.Reader, w tree.Writer, i int64, have map[int64]tree.Value) error {
	x := tree.ChunkExtent(i, f.size, f.chunk)
	if err := f.c.memory.Acquire(ctx, x.Length); err != nil {
		return err
	}
	defer f.c.memory.Release(x.Length)
	if err := f.c.pace.wait(ctx, x.Length); err != nil {
		return err
	}
	data := f.c.bufs.get(x.Length)
	defer f.c.bufs.put(data)
	if n, err := r.ReadAt(data, x.Offset); int64(n) < x.Length {
		if err == nil || errors.Is(err, io.EOF) {
			return fmt.Errorf("%s: %w: it became shorter", f.label, tree.ErrSourceChanged)
		}
		return err
	}
	v := tree.ChunkValue(data, i, f.chunk, len(f.values) == 1)
	if old, ok := have[i]; ok && old == v {
		f.keep(i, v)
		return nil
	}
	f.values[i] = v
	f.kept[i] = false
	extents := f.chunkExtents(data, x)
	if err := w.WriteChunk(ctx, tree.Chunk{Index: i, Data: data, Value: v, Extents: extents}); err != nil {
		return err
	}
	n := payload(x.Length, extents)
	f.moved.Add(n)
	f.sent.Add(n)
	f.credit(i, x.Length, creditSent)
	return nil
}

// chunkExtents returns where chunk x holds data: as the source's holes say, else
// as its zeros say. Nil means everywhere.
func (f *file) chunkExtents(data []byte, x tree.Extent) []tree.Extent {
	if f.c.opt.NoSparse {
		return nil
	}
	if f.extents == nil {
		return dataExtents(data, x.Offset)
	}
	in := x.Clip(f.extents)
	if len(in) == 1 && in[0] == x {
		return nil
	}
	if in == nil {
		return []tree.Extent{}
	}
	return in
}

// isHole reports whether the source is known to have no data in chunk i.
func (f *file) isHole(i int64) bool {
	x := tree.ChunkExtent(i, f.size, f.chunk)
	return f.extents != nil && x.Length > 0 && len(x.Clip(f.extents)) == 0
}

// keep takes chunk i over from an earlier run.
func (f *file) keep(i int64, v tree.Value) {
	f.values[i], f.kept[i] = v, true
	x := tree.ChunkExtent(i, f.size, f.chunk)
	n := x.Length
	if f.extents != nil {
		n = payload(n, x.Clip(f.extents))
	}
	if f.credit(i, x.Length, creditResumed) {
		f.resumed.Add(n)
	}
}

func (f *file) markBad(i int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bad = append(f.bad, i)
}

// badChunks returns the chunks that were kept and must be sent after all.
func (f *file) badChunks() []int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	var again []int64
	for _, i := range f.bad {
		if i >= 0 && i < int64(len(f.kept)) && f.kept[i] {
			again = append(again, i)
		}
	}
	return again
}

type creditKind uint8

const (
	creditSent creditKind = iota
	creditResumed
	creditHole
)

// credit tells listeners that chunk i is done, once however often it is sent.
func (f *file) credit(i, n int64, kind creditKind) bool {
	if f.credited[i] {
		return false
	}
	f.credited[i] = true
	f.c.emit(Moved{ID: f.id, Bytes: n, Resumed: kind == creditResumed, Hole: kind == creditHole})
	return true
}

// sum finds the digest of the file: chunks that are holes have no value of
// their own, so theirs are made here, where there are few enough.
func (f *file) sum() {
	var missing []int64
	var total int64
	for i, v := range f.values {
		if v == (tree.Value{}) {
			missing = append(missing, int64(i))
			total += tree.ChunkExtent(int64(i), f.size, f.chunk).Length
		}
	}
	f.hasDigest = total <= hashedHoles || f.c.opt.Verify == tree.VerifyFull
	if !f.hasDigest {
		return
	}
	all := f.values
	if len(missing) > 0 {
		// Final.Values keeps the zero Values: they say what was not written.
		all = slices.Clone(f.values)
		zero := make([]byte, min(f.chunk, f.size))
		for _, i := range missing {
			x := tree.ChunkExtent(i, f.size, f.chunk)
			all[i] = tree.ChunkValue(zero[:x.Length], i, f.chunk, len(all) == 1)
		}
	}
	f.digest = tree.MergeValues(all)
}
