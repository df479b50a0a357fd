package transfer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"

	"transferd/internal/tree"
)

// ReadTo writes the file src to w, in order, reading ahead. It returns how many
// bytes w took. A connection that is lost is not retried: w may have no way back.
func ReadTo(ctx context.Context, w io.Writer, src Place, o Options) (int64, error) {
	r, err := src.Tree.Open(ctx, src.Path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = r.Close() }() // it was only read
	pace := newPace(o.Bandwidth)
	var total int64
	err = readAhead(ctx, r, func(data []byte, _ int64) error {
		if err := pace.wait(ctx, int64(len(data))); err != nil {
			return err
		}
		n, err := w.Write(data)
		total += int64(n)
		return err
	})
	if err != nil {
		return total, fmt.Errorf("%s: %w", src.Label, err)
	}
	return total, nil
}

// aheadChunks is how many chunks ReadTo and Sum read ahead of their consumer.
const aheadChunks = 8

// readAhead calls use with each chunk of r in order while later ones are read.
func readAhead(ctx context.Context, r tree.Reader, use func(data []byte, index int64) error) error {
	type chunk struct {
		data []byte
		err  error
	}
	const size = tree.MinChunkSize
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var bufs buffers
	group, gctx := errgroup.WithContext(ctx)
	// One slot a chunk in flight; its results arrive in the order of the file.
	slots := make(chan chan chunk, aheadChunks)
	group.Go(func() error {
		defer close(slots)
		for i := int64(0); ; i++ {
			slot := make(chan chunk, 1)
			select {
			case slots <- slot:
			case <-gctx.Done():
				return nil
			}
			data := bufs.get(size)
			n, err := r.ReadAt(data, i*size)
			if err != nil && !errors.Is(err, io.EOF) {
				slot <- chunk{err: err}
				return nil
			}
			slot <- chunk{data: data[:n]}
			if n < size {
				return nil
			}
		}
	})
	var failed error
	index := int64(0)
	for slot := range slots {
		c := <-slot
		if failed == nil && ctx.Err() != nil {
			failed = ctx.Err()
		}
		if failed == nil {
			failed = c.err
		}
		if failed == nil && (len(c.data) > 0 || index == 0) {
			failed = use(c.data, index)
		}
		if failed != nil {
			cancel()
		}
		bufs.put(c.data)
		index++
	}
	return errors.Join(failed, group.Wait())
}

// WriteFrom makes the file dst of everything that r yields. It is made whole or
// not at all, and cannot be resumed: r yields each byte once.
func WriteFrom(ctx context.Context, dst Place, r io.Reader, o Options) (Summary, error) {
	c, err := newCopier(dst, nil, o)
	if err != nil {
		return Summary{}, err
	}
	start := time.Now()
	if e, err := c.sink.Stat(ctx, dst.Path); err == nil && e.IsDir() {
		return Summary{}, fmt.Errorf("%s %w: name the file to write", dst.Label, tree.ErrIsDir)
	}
	w, err := c.sink.Begin(ctx, tree.Upload{
		Path: dst.Path, Size: -1, ChunkSize: tree.MinChunkSize, Sparse: true, Origin: "stdin " + o.Machine,
		InPlace: o.InPlace, NoReplace: o.Overwrite == OverwriteNever, Verify: o.Verify, Fsync: o.Fsync,
	})
	if err != nil {
		return Summary{}, err
	}
	id := c.ids.Add(1)
	c.emit(Started{ID: id, Path: dst.Label, Size: -1})
	final, err := c.pour(ctx, w, r, id)
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), suspendTime)
		defer cancel()
		return Summary{}, errors.Join(err, w.Abort(ctx))
	}
	receipt, err := w.Commit(ctx, final)
	if err != nil {
		return Summary{}, err
	}
	s := Summary{Files: 1, Sent: final.Size, Duration: time.Since(start)}
	c.emit(Finished{
		ID: id, Path: dst.Label, Size: final.Size, Sent: final.Size, Duration: s.Duration, Digest: final.Digest,
		HasDigest: true, Transport: transportOf(c.sink), Verified: receipt.Verified, Status: Copied,
	})
	return s, nil
}

// pour brings r to w chunk by chunk and returns what it was.
func (c *copier) pour(ctx context.Context, w tree.Writer, r io.Reader, id int64) (tree.Final, error) {
	const size = tree.MinChunkSize
	perm := 0o666 &^ c.opt.Umask
	final := tree.Final{HasDigest: true, Attr: tree.Attr{Perm: &perm}}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(fileChunks)
	var readErr error
	in := bufio.NewReader(r)
	for i := int64(0); gctx.Err() == nil; i++ {
		data := c.bufs.get(size)
		n, err := io.ReadFull(in, data)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			readErr = err
			break
		}
		if err := c.pace.wait(gctx, int64(n)); err != nil {
			readErr = err
			break
		}
		// A file of one chunk has its root as that chunk's value, so it must be
		// known whether more follows.
		_, err = in.Peek(1)
		last := errors.Is(err, io.EOF)
		if err != nil && !last {
			readErr = err
			break
		}
		data = data[:n]
		v := tree.ChunkValue(data, i, size, i == 0 && last)
		final.Values = append(final.Values, v)
		final.Size += int64(n)
		group.Go(func() error {
			defer c.bufs.put(data)
			chunk := tree.Chunk{Index: i, Data: data, Value: v, Extents: dataExtents(data, i*size)}
			if err := w.WriteChunk(gctx, chunk); err != nil {
				return err
			}
			c.emit(Moved{ID: id, Bytes: int64(len(data))})
			return nil
		})
		if last {
			break
		}
	}
	if err := errors.Join(group.Wait(), readErr, ctx.Err()); err != nil {
		return final, err
	}
	final.Digest = tree.MergeValues(final.Values)
	return final, nil
}

// Sum returns the BLAKE3 root of the file src: what b3sum prints. A tree that
// can hash does it where the file lies.
func Sum(ctx context.Context, src Place) (tree.Digest, error) {
	return sum(ctx, src.Tree, src.Path)
}

func sum(ctx context.Context, src tree.Source, p tree.Path) (tree.Digest, error) {
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
	var first []byte
	err = readAhead(ctx, r, func(data []byte, index int64) error {
		if index == 0 {
			first = append(first, data...)
		}
		values = append(values, tree.ChunkValue(data, index, tree.MinChunkSize, false))
		return nil
	})
	if err != nil {
		return tree.Digest{}, err
	}
	if len(values) == 1 {
		values[0] = tree.ChunkValue(first, 0, tree.MinChunkSize, true)
	}
	return tree.MergeValues(values), nil
}
