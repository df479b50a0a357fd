package transfer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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
	label  string // of what a directory holds it is made by name, when it is needed
	origin string
	entry  tree.Entry  // the source, as found
	there  *tree.Entry // what has the final name, nil if nothing does
	untidy bool        // an earlier run may have left something of its own beside it
	linked bool        // a symlink with the final name leads to there, and is meant
	dir    *openDir    // the directory that it is in; nil: it is an operand, or no file of a tree
	ways   *ways

	copied bool // the copy has its final name
	fresh  bool // and was made by this command
	ready  bool // it has a slot of copier.local
	large  bool // it has a slot of copier.large
	names  *namesake
}

// name sets how j is named.
func (j *job) name() {
	if j.dir == nil || j.label != "" {
		return
	}
	base := "/" + j.from.Base()
	j.label, j.origin = j.dir.label+base, j.dir.origin+base
}

func (j *job) root() *copiedTree {
	if j.dir == nil {
		return nil
	}
	return j.dir.root
}

// queue starts the copy of j unless it is done already. It blocks while too
// many files are in flight.
func (c *copier) queue(ctx context.Context, j *job) error {
	switch {
	case j.ways.link == nil:
	case j.entry.Inode == 0:
		c.hint(&c.said.links, "the source does not tell which names are one file; each is copied")
	case j.entry.Nlink > 1:
		if followed, err := c.follow(ctx, j); followed || err != nil {
			return err
		}
	}
	if !c.opt.Checksum && !j.untidy && j.names == nil && c.mended(j).IsZero() {
		if settled, err := c.skip(ctx, j); settled || err != nil {
			c.settle(ctx, err)
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	j.name()
	if j.dir != nil {
		j.dir.enter()
	}
	if j.ways.takes(j) {
		if j.ways.near {
			// Here, so that no more wait than are read at once.
			if err := take(ctx, c.local); err != nil {
				return err
			}
			j.ready = true
		}
		return c.crew.do(ctx, func() error { return c.settleJob(ctx, j) })
	}
	if err := take(ctx, c.large); err != nil {
		return err
	}
	j.large = true
	c.group.Go(func() error { return c.settleJob(ctx, j) })
	return nil
}

// enlarge takes a slot for large files, unless j has one.
func (c *copier) enlarge(ctx context.Context, j *job) error {
	if j.large {
		return nil
	}
	c.wasRead(j) // who has one of these may wait for one of those, not the other way round
	err := take(ctx, c.large)
	j.large = err == nil
	return err
}

// take waits for a slot.
func take(ctx context.Context, slots chan struct{}) error {
	select {
	case slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// settleJob brings j to its end, and what waits for it.
func (c *copier) settleJob(ctx context.Context, j *job) error {
	err := c.skipOrCopy(ctx, j)
	if err == nil && j.names != nil {
		// Before j is left, so that its directory waits for all of them.
		c.settle(ctx, nil)
		c.release(j)
		if err := c.nameRest(ctx, j); err != nil {
			return err
		}
		return c.leave(ctx, j.dir)
	}
	return c.endJob(ctx, j, err)
}

func (c *copier) skipOrCopy(ctx context.Context, j *job) error {
	settled, err := c.skip(ctx, j)
	if settled || err != nil {
		return err
	}
	return c.copyFile(ctx, j)
}

// endJob notes that j has come to an end, err if that must stop everything.
func (c *copier) endJob(ctx context.Context, j *job, err error) error {
	c.settle(ctx, err)
	if err != nil {
		return err // its slots are kept: nobody else begins
	}
	c.release(j)
	return c.leave(ctx, j.dir)
}

// release gives back the slots that j has.
func (c *copier) release(j *job) {
	c.wasRead(j)
	if j.large {
		j.large = false
		<-c.large
	}
}

// wasRead gives back the slot for reading j.
func (c *copier) wasRead(j *job) {
	if j.ready {
		j.ready = false
		<-c.local
	}
}

// copyFile copies one file, over several connections in a row if it must.
func (c *copier) copyFile(ctx context.Context, j *job) error {
	f := newFile(c, j)
	if !f.small {
		if err := c.enlarge(ctx, j); err != nil {
			return err
		}
	}
	start := time.Now()
	c.emit(Started{ID: f.id, Path: j.label, Size: j.entry.Size})
	err := c.retryWhile(ctx, j.label, func() (bool, error) {
		f.advanced = false
		err := f.attempt(ctx)
		if errors.Is(err, errors.ErrUnsupported) && f.xattrs {
			// Try without, before anything else is blamed.
			c.noXattrs()
			f.committing = false
			err = f.attempt(ctx)
		}
		return f.advanced, err
	})
	end := Finished{ID: f.id, Path: j.label, Size: f.size, Transport: transportBetween(j.src, j.dst), Status: Copied}
	switch {
	case c.opt.Overwrite == OverwriteNever && errors.Is(err, fs.ErrExist):
		// Somebody else was faster, and keeps the name.
		c.skipped.Add(1)
		end.Status = Skipped
	case err != nil:
		return c.fail(ctx, j.root(), f.id, j.label, err)
	default:
		c.files.Add(1)
		c.resumed.Add(f.resumed.Load())
		end.Digest, end.HasDigest, end.Verified = f.digest, f.hasDigest, f.receipt.Verified
	}
	j.copied = end.Status == Copied
	j.fresh = j.copied
	c.sent.Add(f.sent.Load())
	end.Sent, end.Resumed, end.Duration = f.sent.Load(), f.resumed.Load(), time.Since(start)
	c.emit(end)
	return nil
}

// attempt copies the file once, from where the last attempt left it.
func (f *file) attempt(ctx context.Context) error {
	f.xattrs = false
	if f.committing {
		done, err := f.committedBefore(ctx)
		if done && f.small {
			f.moved()
		}
		if done || err != nil {
			return err
		}
	}
	if f.small {
		err := f.quickly(ctx)
		if !errors.Is(err, errors.ErrUnsupported) || f.xattrs {
			return err
		}
		// It grew, or has holes. What a listing said of it is out of date.
		f.small, f.committing, f.tried = false, false, true
		if err := f.c.enlarge(ctx, f.job); err != nil {
			return err
		}
	}
	r, err := f.src.Open(ctx, f.from)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // it was only read
	// What a listing said may be out of date. To ask costs a round trip where a
	// network is between, which many small files would feel.
	asked := f.tried || f.entry.Grain == 0 || f.entry.Size > tree.MinChunkSize || transportOf(f.src) == ""
	if asked {
		if f.entry, err = r.Stat(ctx); err != nil {
			return err
		}
	}
	f.tried = true
	err = f.copyOnce(ctx, r)
	if asked || !errors.Is(err, tree.ErrSourceChanged) || ctx.Err() != nil {
		return err
	}
	// It may have changed between the listing and its first byte.
	if f.entry, err = r.Stat(ctx); err != nil {
		return err
	}
	return f.copyOnce(ctx, r)
}

// committedBefore reports whether an earlier attempt had succeeded although
// the connection broke before it could say so.
func (f *file) committedBefore(ctx context.Context) (bool, error) {
	look := f.dst.Lstat
	if f.linked {
		look = f.dst.Stat
	}
	there, err := look(ctx, f.to)
	if isMissing(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	times := f.c.opt.Preserve.Times
	switch {
	case there.Kind != tree.KindFile || there.Size != f.size,
		times && !tree.SameTime(there.Mtime, f.entry.Mtime, grainOf(there, f.entry)):
		return false, nil
	case times && !f.c.opt.Checksum && !f.c.opt.InPlace:
		// What was there before differed in one of both: it would have been
		// skipped else. In place the new bytes may have the old ones' size, and
		// a time that is close enough.
	case !f.hasDigest:
		return false, nil
	default:
		d, err := sum(ctx, f.dst, f.to, f.c.memory)
		if err != nil || d != f.digest {
			return false, err
		}
	}
	f.receipt.Verified = tree.VerifiedSampled
	return true, nil
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
	attr, err := f.attr(ctx)
	if err != nil {
		return suspend(ctx, w, err)
	}
	f.sum()
	f.committing = true
	f.receipt, err = w.Commit(ctx, tree.Final{
		Size: f.size, Values: f.values, Digest: f.digest, HasDigest: f.hasDigest, Attr: attr,
	})
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

// attr is what of the source the copy gets. A file that is replaced keeps its
// own mode where the source's is not wanted.
func (f *file) attr(ctx context.Context) (tree.Attr, error) {
	a := f.c.attr(f.entry)
	if !f.c.opt.Preserve.Mode && f.there != nil && f.there.Kind == tree.KindFile {
		a.Perm = nil
	}
	var err error
	a.Xattrs, err = f.c.xattrsOf(ctx, f.ways, f.from, f.there != nil && f.c.opt.InPlace)
	f.xattrs = a.Xattrs != nil
	return a, err
}

// suspend ends w so that a later run finds what arrived, also when ctx has
// ended, and returns cause.
func suspend(ctx context.Context, w tree.Writer, cause error) error {
	stopped := ctx.Err() != nil || errors.Is(cause, tree.ErrLost)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), suspendTime)
	defer cancel()
	if err := w.Suspend(ctx); err != nil && !stopped {
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
	if changed(f.entry, now) {
		return fmt.Errorf("%s: %w", f.label, tree.ErrSourceChanged)
	}
	return nil
}

// changed reports whether a file that was a and is b now may have other
// contents. What a tree cannot tell does not count.
func changed(a, b tree.Entry) bool {
	return a.Size != b.Size || !tree.SameTime(a.Mtime, b.Mtime, grainOf(a, b)) ||
		(a.Inode != b.Inode && a.Inode != 0 && b.Inode != 0) ||
		(!a.Ctime.Equal(b.Ctime) && !a.Ctime.IsZero() && !b.Ctime.IsZero())
}

// attr is what of e its copy gets.
func (c *copier) attr(e tree.Entry) tree.Attr {
	perm := e.Perm & 0o777
	if !c.opt.Preserve.Mode {
		perm &^= c.opt.Umask
	}
	a := tree.Attr{Perm: &perm}
	if c.opt.Preserve.Owner {
		a.Owner = &tree.Owner{UID: e.UID, GID: e.GID}
		if c.opt.Preserve.Mode {
			perm = e.Perm // setuid and setgid belong to this owner
		}
	}
	if c.opt.Preserve.Times {
		a.Mtime, a.Atime = &e.Mtime, &e.Atime
	}
	return a
}
