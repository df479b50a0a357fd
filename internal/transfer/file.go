package transfer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"transferd/internal/tree"
)

// suspendTime is how long a broken-off copy may take to save what arrived.
const suspendTime = 3 * time.Second

// A job is one file to copy.
type job struct {
	src    tree.Source
	from   tree.Path
	dst    tree.Sink
	to     tree.Path
	label  string
	origin string
	entry  tree.Entry  // the source, as found
	there  *tree.Entry // what has the final name, nil if nothing does
}

// queue starts the copy of j unless it is done already. It blocks while too
// many files are in flight.
func (c *copier) queue(ctx context.Context, j job) error {
	c.find(1, j.entry.Size, false)
	if !c.opt.Checksum {
		if stop, err := c.skip(ctx, j); stop || err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	c.group.Go(func() error {
		if c.opt.Checksum {
			if stop, err := c.skip(ctx, j); stop || err != nil {
				return err
			}
		}
		return c.copyFile(ctx, j)
	})
	return nil
}

// skip deals with a file that needs no copy; it reports whether j is settled.
func (c *copier) skip(ctx context.Context, j job) (bool, error) {
	done, err := c.done(ctx, j)
	if err == nil && done {
		err = c.mend(ctx, j)
	}
	if err != nil {
		return true, c.fail(0, j.label, err)
	}
	status := Skipped
	switch {
	case done:
		c.skipped.Add(1)
	case c.opt.DryRun:
		status = Planned
		c.files.Add(1)
	default:
		return false, nil
	}
	c.emit(Finished{
		ID: c.ids.Add(1), Path: j.label, Size: j.entry.Size, Transport: c.transport(j), Status: status,
	})
	return true, nil
}

// transport names what lies between the two ends of j.
func (c *copier) transport(j job) string {
	if t := transportOf(j.dst); t != "" {
		return t
	}
	return transportOf(j.src)
}

// copyFile copies one file, over several connections in a row if it must.
func (c *copier) copyFile(ctx context.Context, j job) error {
	f := newFile(c, j)
	start := time.Now()
	c.emit(Started{ID: f.id, Path: j.label, Size: j.entry.Size})
	attempt := 0
	err := c.retryWhile(ctx, j.label, func() (bool, error) {
		attempt++
		before := f.moved.Load()
		err := f.attempt(ctx, attempt)
		return f.moved.Load() > before, err
	})
	if err != nil {
		return c.fail(f.id, j.label, err)
	}
	c.files.Add(1)
	c.sent.Add(f.sent.Load())
	c.resumed.Add(f.resumed.Load())
	c.emit(Finished{
		ID: f.id, Path: j.label, Size: f.size, Sent: f.sent.Load(), Resumed: f.resumed.Load(),
		Duration: time.Since(start), Digest: f.digest, HasDigest: f.hasDigest,
		Transport: c.transport(j), Verified: f.receipt.Verified, Status: Copied,
	})
	return nil
}

// attempt copies the file once, from where the last attempt left it.
func (f *file) attempt(ctx context.Context, attempt int) error {
	if attempt > 1 {
		if done, err := f.committedBefore(ctx); done || err != nil {
			return err
		}
	}
	r, err := f.src.Open(ctx, f.from)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // it was only read
	if attempt > 1 || f.entry.Grain == 0 {
		if f.entry, err = r.Stat(ctx); err != nil {
			return err
		}
	}
	err = f.copyOnce(ctx, r)
	if !errors.Is(err, tree.ErrSourceChanged) || attempt > 1 || ctx.Err() != nil {
		return err
	}
	// The entry came from a listing: the file may have changed between that and
	// the open, before any byte was read. What it is now decides.
	if f.entry, err = r.Stat(ctx); err != nil {
		return err
	}
	return f.copyOnce(ctx, r)
}

// committedBefore reports whether an earlier attempt had succeeded although
// the connection broke before it could say so.
func (f *file) committedBefore(ctx context.Context) (bool, error) {
	there, err := f.dst.Lstat(ctx, f.to)
	if isMissing(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return f.committing && f.c.opt.Preserve.Times && there.Kind == tree.KindFile && there.Size == f.size &&
		tree.SameTime(there.Mtime, f.entry.Mtime, max(there.Grain, f.entry.Grain)), nil
}

// copyOnce moves the bytes of r to a Writer and ends it.
func (f *file) copyOnce(ctx context.Context, r tree.Reader) error {
	if err := f.reset(ctx, r); err != nil {
		return err
	}
	w, err := f.dst.Begin(ctx, f.upload())
	if err != nil {
		return err
	}
	if err := f.fill(ctx, r, w); err != nil {
		return suspend(ctx, w, err)
	}
	if err := f.sourceUnchanged(ctx, r); err != nil {
		return suspend(ctx, w, err)
	}
	f.committing = true
	f.receipt, err = w.Commit(ctx, f.final())
	return err
}

func (f *file) upload() tree.Upload {
	return tree.Upload{
		Path: f.to, Size: f.size, Source: f.entry.Identity(), Origin: f.origin, ChunkSize: f.chunk,
		Resume: !f.c.opt.NoResume, Sparse: f.sparse(), InPlace: f.c.opt.InPlace,
		NoReplace: f.c.opt.Overwrite == OverwriteNever,
		Verify:    f.c.opt.Verify, Fsync: f.c.opt.Fsync,
	}
}

// suspend ends w so that a later run finds what arrived, also when ctx has
// ended, and returns cause.
func suspend(ctx context.Context, w tree.Writer, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), suspendTime)
	defer cancel()
	if err := w.Suspend(ctx); err != nil && !errors.Is(cause, tree.ErrLost) && !errors.Is(cause, context.Canceled) {
		return errors.Join(cause, err)
	}
	return cause
}

// sourceUnchanged compares the open source with what it was at the start.
func (f *file) sourceUnchanged(ctx context.Context, r tree.Reader) error {
	now, err := r.Stat(ctx)
	if err != nil {
		return err
	}
	if now.Size != f.entry.Size || !tree.SameTime(now.Mtime, f.entry.Mtime, max(now.Grain, f.entry.Grain)) {
		return fmt.Errorf("%s: %w", f.label, tree.ErrSourceChanged)
	}
	return nil
}

// final is what Commit is told of the file.
func (f *file) final() tree.Final {
	f.sum()
	return tree.Final{
		Size: f.size, Values: f.values, Digest: f.digest, HasDigest: f.hasDigest, Attr: f.c.attr(f.entry),
	}
}

// attr is what of e the copy gets.
func (c *copier) attr(e tree.Entry) tree.Attr {
	a := tree.Attr{Perm: ptr(e.Perm & 0o777)}
	if !c.opt.Preserve.Mode {
		*a.Perm &^= c.opt.Umask
	}
	if c.opt.Preserve.Owner {
		a.Owner = &tree.Owner{UID: e.UID, GID: e.GID}
		a.Perm = ptr(e.Perm)
	}
	if c.opt.Preserve.Times {
		a.Mtime, a.Atime = &e.Mtime, &e.Atime
	}
	return a
}
