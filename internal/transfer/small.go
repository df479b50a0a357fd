package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"

	"transferd/internal/tree"
)

// worthHoles is how many bytes of zeros a small file may have before it goes as
// large ones do, which keep their holes.
const worthHoles = 32 << 10

// quickly copies a small file in one piece: one call to get it, one to put it.
// ErrUnsupported means that it has to go as large ones do.
func (f *file) quickly(ctx context.Context) error {
	w := f.ways
	if f.entry.Size < 0 || f.entry.Size > w.limit {
		return errors.ErrUnsupported
	}
	room := max(f.entry.Size, smallestBuffer)
	if err := f.c.memory.Acquire(ctx, room); err != nil {
		return err
	}
	defer f.c.memory.Release(room)
	got, done, err := f.fetch(ctx)
	f.c.wasRead(f.job)
	if err != nil {
		return err
	}
	defer done()
	f.entry, f.size, f.chunk = got.Entry, got.Entry.Size, tree.MinChunkSize
	f.tried = true
	if int64(len(got.Data)) != f.size {
		return fmt.Errorf("%s: %w: %d bytes came of %d", f.label, tree.ErrIntegrity, len(got.Data), f.size)
	}
	if more := f.ledger.reset(f.size, 1); more != 0 {
		f.c.find(0, more)
	}
	if !f.c.opt.NoSparse && f.size >= worthHoles && f.size-payload(f.size, dataExtents(got.Data, 0)) >= worthHoles {
		return errors.ErrUnsupported
	}
	attr, err := f.attr(ctx)
	if err != nil {
		return err
	}
	if err := f.c.pace.wait(ctx, f.size); err != nil {
		return err
	}
	f.digest, f.hasDigest = got.Digest, true
	f.committing = true
	f.receipt, err = w.put.Put(ctx, tree.Small{
		Path: f.to, Data: got.Data, Digest: got.Digest, Origin: f.origin,
		InPlace: f.c.opt.InPlace, NoReplace: f.c.opt.Overwrite == OverwriteNever,
		Verify: f.c.opt.Verify, Fsync: f.c.opt.Fsync, Attr: attr,
	})
	if err != nil {
		return err
	}
	f.c.tidy(ctx, f.job)
	f.moved()
	return nil
}

// moved notes that all of a small file has gone.
func (f *file) moved() {
	f.sent.Add(f.size)
	f.settle(0, fateSent)
}

// fetch reads the source. done must be called when its data is not needed any
// more.
func (f *file) fetch(ctx context.Context) (got tree.Got, done func(), err error) {
	if f.ways.get != nil {
		got, err = f.ways.get.Get(ctx, f.from, f.ways.limit)
		if errors.Is(err, tree.ErrSourceChanged) {
			got, err = f.ways.get.Get(ctx, f.from, f.ways.limit)
		}
		return got, func() {}, err
	}
	r, err := f.src.Open(ctx, f.from)
	if err != nil {
		return got, nil, err
	}
	defer func() { _ = r.Close() }() // it was only read
	if got.Entry, err = r.Stat(ctx); err != nil {
		return got, nil, err
	}
	if got.Entry.Size > f.ways.limit {
		return got, nil, errors.ErrUnsupported
	}
	data := f.c.bufs.get(got.Entry.Size)
	done = func() { f.c.bufs.put(data) }
	n, err := r.ReadAt(data, 0)
	switch {
	case n < len(data) && (err == nil || errors.Is(err, io.EOF)):
		err = fmt.Errorf("%s: %w", f.label, errShorter)
	case n == len(data):
		var now tree.Entry
		now, err = r.Stat(ctx)
		if err == nil && changed(got.Entry, now) {
			err = fmt.Errorf("%s: %w", f.label, tree.ErrSourceChanged)
		}
	}
	if err != nil {
		done()
		return got, nil, err
	}
	got.Data = data
	got.Digest = tree.Digest(tree.ChunkValue(data, 0, tree.MinChunkSize, true))
	return got, done, nil
}
