package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"transferd/internal/tree"
)

// ReadTo writes the file src to w, in order, reading ahead, and returns how many
// bytes w took. After a lost connection it goes on behind them, if the file is
// still the same. Of o it heeds Retries, Events, which hear of retries only, and,
// where no network is between, Bandwidth.
func ReadTo(ctx context.Context, w io.Writer, src Place, o Options) (int64, error) {
	c := &copier{opt: o}
	if transportOf(src.Tree) == "" {
		c.pace = newPace(o.Bandwidth)
	}
	var total int64
	var first *tree.Entry
	err := c.retryWhile(ctx, src.Label, func() (bool, error) {
		before := total
		err := c.readOn(ctx, w, src, &total, &first)
		return total > before, err
	})
	if err != nil {
		return total, fmt.Errorf("%s: %w", src.Label, err)
	}
	return total, nil
}

// readOn writes what of src lies behind *total to w. The version of the file
// is the one in *first, if that is not nil.
func (c *copier) readOn(ctx context.Context, w io.Writer, src Place, total *int64, first **tree.Entry) error {
	r, err := src.Tree.Open(ctx, src.Path)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // it was only read
	e, err := r.Stat(ctx)
	if err != nil {
		return err
	}
	if *first == nil {
		*first = &e
	}
	if changed(**first, e) {
		return tree.ErrSourceChanged
	}
	err = readAhead(ctx, r, *total, nil, func(data []byte, _ int64) error {
		for piece := range c.pace.pieces(data) {
			if err := c.pace.wait(ctx, int64(len(piece))); err != nil {
				return err
			}
			n, err := w.Write(piece)
			*total += int64(n)
			if err == nil && n < len(piece) {
				err = io.ErrShortWrite
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && *total < e.Size {
		return errShorter
	}
	return err
}

// errShorter: a file ended before the size that it has. Where that is not its
// own fault, it is that of a reader that took something else for its end.
var errShorter = fmt.Errorf("%w: it became shorter", tree.ErrSourceChanged)

// aheadChunks is how many chunks readAhead reads before their consumer wants
// them.
const aheadChunks = 8

// readAhead calls use with each MinChunkSize of r from offset from on, in order,
// while later ones are read; once, with nothing, if there is nothing. If memory
// is not nil, what is read and not yet used is taken from it.
func readAhead(ctx context.Context, r tree.Reader, from int64, memory *semaphore.Weighted, use func(data []byte, index int64) error) error {
	type chunk struct {
		data []byte
		err  error
	}
	const size = tree.MinChunkSize
	if memory == nil {
		memory = semaphore.NewWeighted((aheadChunks + 1) * size)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var bufs buffers
	var group errgroup.Group
	var end atomic.Bool // what follows is behind the end of the file
	read := func(i int64) chunk {
		data := bufs.get(size)
		n, err := r.ReadAt(data, from+i*size)
		if n < size {
			end.Store(true)
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return chunk{data: data[:n], err: err}
	}
	// A chunk in flight is a slot; they are taken in the order of the file, and
	// their memory too, so that the first never waits for those behind it.
	slots := make(chan chan chunk, aheadChunks)
	group.Go(func() error {
		defer close(slots)
		for i := int64(0); !end.Load(); i++ {
			if memory.Acquire(ctx, size) != nil {
				return nil // ctx has ended, which the consumer reports
			}
			slot := make(chan chunk, 1)
			if i == 0 {
				slot <- read(0) // of most files there is no more
			} else {
				group.Go(func() error {
					slot <- read(i)
					return nil
				})
			}
			slots <- slot
		}
		return nil
	})
	var failed error
	stopped := false
	index := int64(0)
	for slot := range slots {
		c := <-slot
		if !stopped {
			switch {
			case ctx.Err() != nil:
				failed = ctx.Err()
			case c.err != nil:
				failed = c.err
			case len(c.data) > 0 || index == 0:
				failed = use(c.data, index)
			}
			if stopped = failed != nil || len(c.data) < size; stopped {
				end.Store(true)
				cancel()
			}
		}
		bufs.put(c.data)
		memory.Release(size)
		index++
	}
	_ = group.Wait() // its functions return nothing
	if !stopped {
		return ctx.Err() // it ended before the first chunk, or between two
	}
	return failed
}

// Sum returns the BLAKE3 root of the file src: what b3sum prints. A tree that
// can hash does it where the file lies.
func Sum(ctx context.Context, src Place) (tree.Digest, error) {
	return sum(ctx, src.Tree, src.Path, nil)
}

func sum(ctx context.Context, src tree.Source, p tree.Path, memory *semaphore.Weighted) (tree.Digest, error) {
	if s, ok := src.(tree.Summer); ok {
		d, err := s.Sum(ctx, p)
		if !errors.Is(err, errors.ErrUnsupported) {
			return d, err
		}
	}
	r, err := src.Open(ctx, p)
	if err != nil {
		return tree.Digest{}, err
	}
	defer func() { _ = r.Close() }() // it was only read
	var values []tree.Value
	var whole tree.Value // of the first chunk, if it is the only one
	var size int64
	err = readAhead(ctx, r, 0, memory, func(data []byte, index int64) error {
		size += int64(len(data))
		if index == 0 {
			whole = tree.ChunkValue(data, 0, tree.MinChunkSize, true)
		}
		values = append(values, tree.ChunkValue(data, index, tree.MinChunkSize, false))
		return nil
	})
	if err != nil {
		return tree.Digest{}, err
	}
	if e, err := r.Stat(ctx); err != nil || size < e.Size {
		return tree.Digest{}, cmp.Or(err, errShorter)
	}
	if len(values) == 1 {
		return tree.Digest(whole), nil
	}
	return tree.MergeValues(values), nil
}
