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

// WriteFrom makes the file dst of everything that r yields. It is made whole or
// not at all, and cannot be resumed: r yields each byte once, and is not read
// before dst is known to be writable.
func WriteFrom(ctx context.Context, dst Place, r io.Reader, o Options) (Summary, error) {
	c, err := newCopier(dst, nil, o)
	if err != nil {
		return Summary{}, err
	}
	if o.DryRun {
		return Summary{}, &UsageError{What: "what a stream brings cannot be told without reading it"}
	}
	start := time.Now()
	err = c.stream(ctx, r, start)
	s := c.summary()
	s.Duration = time.Since(start)
	return s, err
}

func (c *copier) stream(ctx context.Context, r io.Reader, start time.Time) error {
	j := &job{dst: c.sink, to: c.dst.Path, label: c.dst.Label, ways: &ways{}}
	var err error
	if j.there, j.linked, err = c.existing(ctx, j.to); err != nil {
		return err
	}
	f := newFile(c, j)
	end := Finished{ID: f.id, Path: j.label, Transport: transportOf(c.sink), Status: Copied}
	switch {
	case j.there == nil && c.dst.Slash:
		return fmt.Errorf("%s: %w", j.label, tree.ErrNotDir)
	case j.there != nil && j.there.IsDir():
		return fmt.Errorf("%s %w: name the file to write", j.label, tree.ErrIsDir)
	case j.there != nil && c.opt.Overwrite == OverwriteNever:
		c.skipped.Add(1)
		end.Status = Skipped
		c.emit(end)
		return nil
	}
	f.holes = !c.opt.NoSparse && !f.isStream()
	w, err := retryValue(ctx, c, j.label, func() (tree.Writer, error) {
		return c.sink.Begin(ctx, tree.Upload{
			Path: j.to, Size: -1, ChunkSize: tree.MinChunkSize, Sparse: f.holes, Origin: "stdin " + c.opt.Machine,
			InPlace: c.opt.InPlace, NoReplace: c.opt.Overwrite == OverwriteNever, Verify: c.opt.Verify, Fsync: c.opt.Fsync,
		})
	})
	if err != nil {
		return err
	}
	c.find(1, 0)
	c.emit(Started{ID: f.id, Path: j.label, Size: -1})
	final, err := f.pour(ctx, w, r)
	if err == nil {
		f.receipt, err = w.Commit(ctx, final)
	} else {
		actx, cancel := context.WithTimeout(context.WithoutCancel(ctx), suspendTime)
		defer cancel()
		if aerr := w.Abort(actx); ctx.Err() == nil && !errors.Is(err, tree.ErrLost) {
			err = errors.Join(err, aerr)
		}
	}
	if err != nil {
		_ = c.fail(ctx, nil, f.id, j.label, err) // it is returned in any case
		return err
	}
	c.files.Add(1)
	c.sent.Add(f.sent.Load())
	c.foundAll()
	end.Size, end.Sent, end.Duration = final.Size, f.sent.Load(), time.Since(start)
	end.Digest, end.HasDigest, end.Verified = final.Digest, true, f.receipt.Verified
	c.emit(end)
	return nil
}

// pour brings r to w chunk by chunk and returns what it was.
func (f *file) pour(ctx context.Context, w tree.Writer, r io.Reader) (tree.Final, error) {
	const size = tree.MinChunkSize
	final := tree.Final{HasDigest: true}
	if f.there == nil {
		final.Attr.Perm = ptr(0o666 &^ f.c.opt.Umask)
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(fileChunks)
	in := bufio.NewReader(r)
	var readErr error
	for i, more := int64(0), true; more && gctx.Err() == nil; i++ {
		data := f.c.bufs.get(size)
		var n int
		if n, more, readErr = fillFrom(in, data); readErr != nil {
			break
		}
		if f.c.pace.wait(gctx, int64(n)) != nil {
			break // gctx has ended, and who ended it says why
		}
		data = data[:n]
		v := tree.ChunkValue(data, i, size, i == 0 && !more)
		final.Values = append(final.Values, v)
		final.Size += int64(n)
		f.c.find(0, int64(n))
		group.Go(func() error {
			defer f.c.bufs.put(data)
			chunk := tree.Chunk{Index: i, Data: data, Value: v}
			if f.holes {
				chunk.Extents = dataExtents(data, i*size)
			}
			if err := w.WriteChunk(gctx, chunk); err != nil {
				return err
			}
			f.sent.Add(payload(int64(n), chunk.Extents))
			if n > 0 {
				f.c.emit(Moved{ID: f.id, Bytes: int64(n)})
			}
			return nil
		})
	}
	err := group.Wait()
	switch {
	case err != nil:
		return final, err
	case readErr != nil:
		return final, fmt.Errorf("read what goes to %s: %w", f.label, readErr)
	case ctx.Err() != nil:
		return final, context.Cause(ctx)
	}
	final.Digest = tree.MergeValues(final.Values)
	return final, nil
}

// fillFrom fills data from in as far as that goes and tells whether more
// follows: a file of one chunk has its root as that chunk's value, so this must
// be known before it is sent.
func fillFrom(in *bufio.Reader, data []byte) (n int, more bool, err error) {
	n, err = io.ReadFull(in, data)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return n, false, nil
	}
	if err != nil {
		return n, false, err
	}
	_, err = in.Peek(1)
	if errors.Is(err, io.EOF) {
		return n, false, nil
	}
	return n, err == nil, err
}
