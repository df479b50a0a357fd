package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"transferd/internal/tree"
)

const (
	// fileChunks is how many chunks of one file are in flight: with chunks of 1
	// MiB what a line of 1 Gbit/s holds at 50 ms, and as many again that are read,
	// hashed and written meanwhile. Of larger chunks chunkMemory allows fewer.
	fileChunks = 16

	// firstChunks is how many there are at first. As long as a chunk takes no
	// longer than quickChunk one more is added for it: many on a slow line would
	// all be half done for long, and a kill would lose them all.
	firstChunks = 4
	quickChunk  = 500 * time.Millisecond

	// hashedHoles bounds the zeros that are hashed to give a sparse file its
	// BLAKE3 root; beyond it the extents and data chunks alone are checked.
	hashedHoles = 1 << 30

	// maxChunks bounds what is kept in memory of one file, whatever size a
	// server claims: 64 TiB take about a gigabyte.
	maxChunks = 1 << 24
)

// A file is one file on its way: a job, and how far it has come.
type file struct {
	*job
	c  *copier
	id int64

	// state of the whole run
	sent, resumed atomic.Int64
	ledger        ledger
	plain         atomic.Bool // the source does not hash what it sends
	tried         bool        // an attempt has read the source
	committing    bool        // an attempt came to its Commit
	small         bool        // it is tried in one piece
	xattrs        bool        // its copy was to get extended attributes
	best          int         // the most chunks that a Writer had at its beginning
	advanced      bool        // the last attempt found more of them than all before it

	// state of one attempt
	size, chunk int64
	holes       bool          // the copy may get holes
	extents     []tree.Extent // of the source's data; nil: not known
	values      []tree.Value  // zero: a hole that was not written
	kept        []bool        // chunks taken over from earlier runs

	// result
	digest    tree.Digest
	hasDigest bool
	receipt   tree.Receipt

	mu  sync.Mutex // guards bad
	bad []int64    // kept chunks that Recheck found wrong
}

func newFile(c *copier, j *job) *file {
	f := &file{c: c, job: j, id: c.ids.Add(1), size: j.entry.Size, small: j.ways.takes(j)}
	f.ledger.found = j.entry.Size
	return f
}

// reset prepares an attempt at what the source is now.
func (f *file) reset(ctx context.Context, r tree.Reader) error {
	f.size = f.entry.Size
	f.chunk = tree.ChunkSizeFor(f.size)
	if f.size < 0 || f.size > maxChunks*f.chunk {
		return fmt.Errorf("%s: a file of %d bytes is not copied: too large", f.label, f.size)
	}
	n := tree.ChunkCount(f.size, f.chunk)
	f.values, f.kept = make([]tree.Value, n), make([]bool, n)
	f.bad, f.extents, f.digest, f.hasDigest = nil, nil, tree.Digest{}, false
	if more := f.ledger.reset(f.size, int(n)); more != 0 {
		f.c.find(0, more)
	}
	// A device or FIFO takes every byte as it is.
	f.holes = !f.c.opt.NoSparse && !f.isStream()
	x, ok := r.(tree.ExtentReader)
	if !ok || !f.holes {
		return nil
	}
	extents, err := x.Extents(ctx)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if extents == nil {
		extents = []tree.Extent{}
	}
	f.extents = extents
	return err
}

// isStream reports whether the destination is written in place, byte for byte:
// a device, FIFO or socket.
func (f *file) isStream() bool {
	if f.there == nil {
		return false
	}
	switch f.there.Kind {
	case tree.KindFIFO, tree.KindSocket, tree.KindCharDevice, tree.KindBlockDevice:
		return true
	case tree.KindUnknown, tree.KindFile, tree.KindDir, tree.KindSymlink:
	}
	return false
}

// sparse reports whether the copy may get holes.
func (f *file) sparse() bool {
	return f.holes && (f.extents == nil || payload(f.size, f.extents) < f.size)
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
	if len(have) > f.best {
		f.best, f.advanced = len(have), true
	}
	trusted := w.Unchanged() && f.c.opt.Verify == tree.VerifyFast
	var hasher tree.ChunkHasher
	if !trusted {
		hasher = f.hasher(r)
	}
	var todo []int64
	for i := range int64(len(f.values)) {
		v, ok := have[i]
		switch {
		case ok && trusted:
			f.keep(i, v)
		case !ok && f.isHole(i):
			// The writer sees to it that what is not written reads as zeros,
			// whatever an earlier run left there.
			f.settle(i, fateHole)
		case !ok || hasher == nil:
			todo = append(todo, i)
		}
	}
	var differ []int64
	group, gctx := errgroup.WithContext(ctx)
	if trusted && len(have) > 0 {
		group.Go(func() error { return w.Recheck(gctx, f.markBad) })
	}
	if hasher != nil && len(have) > 0 {
		group.Go(func() (err error) {
			differ, err = f.compare(gctx, hasher, have)
			return err
		})
	}
	f.sendAll(ctx, gctx, group, r, w, todo, have)
	if err := group.Wait(); err != nil {
		return err
	}
	if !trusted && len(have) > 0 {
		if err := w.Recheck(ctx, f.markBad); err != nil {
			return err
		}
	}
	again := f.revokeBad()
	group, gctx = errgroup.WithContext(ctx)
	f.sendAll(ctx, gctx, group, r, w, differ, have)
	f.sendAll(ctx, gctx, group, r, w, again, nil)
	return group.Wait()
}

// sendAll starts goroutines in group, whose context is gctx, that send the chunks
// of todo. A chunk whose source has the value that have says is kept instead.
// What was read from a server when that was lost is still written: only the end
// of ctx stops it.
func (f *file) sendAll(ctx, gctx context.Context, group *errgroup.Group, r tree.Reader, w tree.Writer, todo []int64, have map[int64]tree.Value) {
	var next, started atomic.Int64
	most := min(f.senders(), int64(len(todo)))
	var sender func() error
	start := func() {
		if started.Add(1) <= most {
			group.Go(sender)
		}
	}
	sender = func() error {
		for {
			at := next.Add(1) - 1
			if at >= int64(len(todo)) {
				return nil
			}
			begun := time.Now()
			if err := f.send(ctx, gctx, r, w, todo[at], have); err != nil {
				return err
			}
			if time.Since(begun) < quickChunk {
				start()
			}
		}
	}
	for range firstChunks {
		start()
	}
}

// send reads chunk i of the source and, unless the other side has it, writes it.
// It begins nothing when gctx has ended.
func (f *file) send(ctx, gctx context.Context, r tree.Reader, w tree.Writer, i int64, have map[int64]tree.Value) error {
	x := f.extent(i)
	if err := f.c.memory.Acquire(gctx, x.Length); err != nil {
		return err
	}
	defer f.c.memory.Release(x.Length)
	if err := gctx.Err(); err != nil {
		return err
	}
	data := f.c.bufs.get(x.Length)
	defer f.c.bufs.put(data)
	v, err := f.read(ctx, r, data, i)
	if err != nil {
		return err
	}
	if old, ok := have[i]; ok && old == v {
		f.keep(i, v)
		return nil
	}
	f.values[i], f.kept[i] = v, false
	extents := f.chunkExtents(data, x)
	n := payload(x.Length, extents)
	if f.ways.near {
		ctx = gctx
		if err := f.c.pace.wait(ctx, n); err != nil {
			return err
		}
	}
	if err := w.WriteChunk(ctx, tree.Chunk{Index: i, Data: data, Value: v, Extents: extents}); err != nil {
		return err
	}
	f.sent.Add(n)
	f.settle(i, fateSent)
	return nil
}

func (f *file) extent(i int64) tree.Extent { return tree.ChunkExtent(i, f.size, f.chunk) }

// chunkExtents returns where chunk x holds data: as the source's holes say, else
// as its zeros say. Nil means everywhere.
func (f *file) chunkExtents(data []byte, x tree.Extent) []tree.Extent {
	if !f.holes {
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
	x := f.extent(i)
	return f.extents != nil && x.Length > 0 && len(x.Clip(f.extents)) == 0
}

// keep takes chunk i over from an earlier run.
func (f *file) keep(i int64, v tree.Value) {
	f.values[i], f.kept[i] = v, true
	if f.settle(i, fateResumed) {
		f.resumed.Add(f.stored(i))
	}
}

// stored is how many bytes of chunk i are no holes, as far as is known.
func (f *file) stored(i int64) int64 {
	x := f.extent(i)
	if f.extents == nil {
		return x.Length
	}
	return payload(x.Length, x.Clip(f.extents))
}

// settle tells listeners that chunk i is done, unless they know.
func (f *file) settle(i int64, as fate) bool {
	news, first := f.ledger.settle(i, f.extent(i).Length, as)
	if news > 0 {
		f.c.emit(Moved{ID: f.id, Bytes: news, Resumed: as == fateResumed, Hole: as == fateHole})
	}
	return first
}

func (f *file) markBad(i int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bad = append(f.bad, i)
}

// revokeBad returns the chunks that were kept and must be sent after all.
func (f *file) revokeBad() []int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	var again []int64
	for _, i := range f.bad {
		if i < 0 || i >= int64(len(f.kept)) || !f.kept[i] {
			continue // sent in this attempt already
		}
		f.kept[i] = false
		again = append(again, i)
		if f.ledger.revoke(i) {
			f.resumed.Add(-f.stored(i))
		}
	}
	return again
}

// sum finds the digest of the file: chunks that are holes have no value of
// their own, so theirs are made here, where there are few enough.
func (f *file) sum() {
	var missing []int64
	var total int64
	for i, v := range f.values {
		if v == (tree.Value{}) {
			missing = append(missing, int64(i))
			total += f.extent(int64(i)).Length
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
			all[i] = tree.ChunkValue(zero[:f.extent(i).Length], i, f.chunk, len(all) == 1)
		}
	}
	f.digest = tree.MergeValues(all)
}
