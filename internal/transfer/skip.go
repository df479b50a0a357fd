package transfer

import (
	"context"
	"fmt"
	"time"

	"transferd/internal/tree"
)

// skip deals with a file that needs no copy; it reports whether j is settled.
// It reads and changes nothing unless Checksum is set or j is to be mended or
// untidy.
func (c *copier) skip(ctx context.Context, j *job) (bool, error) {
	done, err := c.done(ctx, j)
	if attr := c.mended(j); err == nil && done && !attr.IsZero() {
		err = c.retry(ctx, j.label, func() error { return j.dst.SetAttr(ctx, j.to, attr) })
	}
	if err != nil {
		j.name()
		return true, c.fail(ctx, j.root(), 0, j.label, err)
	}
	status := Skipped
	switch {
	case done:
		c.skipped.Add(1)
		c.tidy(ctx, j)
	case c.opt.DryRun:
		status = Planned
		c.files.Add(1)
	default:
		return false, nil
	}
	// Else it may be there with other contents.
	j.copied = c.opt.Overwrite == OverwriteAlways
	if c.opt.Events == nil {
		return true, nil
	}
	j.name()
	c.emit(Finished{
		ID: c.ids.Add(1), Path: j.label, Size: j.entry.Size, Transport: transportBetween(j.src, j.dst), Status: status,
	})
	return true, nil
}

// tidy removes what an earlier run left that was killed after its last step.
// That this fails is no reason to fail.
func (c *copier) tidy(ctx context.Context, j *job) {
	if t, ok := j.dst.(tree.Tidier); ok && j.untidy && !c.opt.DryRun {
		_ = t.Tidy(ctx, j.to, j.origin)
	}
}

// done reports whether what is at the destination makes copying j needless, and
// an error when it is something that a file must not replace.
func (c *copier) done(ctx context.Context, j *job) (bool, error) {
	if j.there == nil {
		return false, nil
	}
	there := *j.there
	switch {
	case there.IsDir():
		j.name()
		return false, fmt.Errorf("%s: destination %s %w", j.label, j.to, tree.ErrIsDir)
	case c.opt.Overwrite == OverwriteNever:
		return true, nil
	case there.Kind != tree.KindFile:
		return false, nil
	case c.opt.Overwrite == OverwriteNewer && !isNewer(j.entry, there):
		return true, nil
	case j.entry.Size != there.Size:
		return false, nil
	case c.opt.Checksum:
		return c.sameDigest(ctx, j)
	}
	return tree.SameTime(j.entry.Mtime, there.Mtime, grainOf(j.entry, there)), nil
}

// isNewer reports whether a was changed after b, as far as both trees can tell.
func isNewer(a, b tree.Entry) bool {
	return a.Mtime.After(b.Mtime) && !tree.SameTime(a.Mtime, b.Mtime, grainOf(a, b))
}

// grainOf is the coarser resolution of the times of a and b.
func grainOf(a, b tree.Entry) time.Duration { return max(a.Grain, b.Grain) }

// sameDigest compares both files by reading them.
func (c *copier) sameDigest(ctx context.Context, j *job) (bool, error) {
	a, err := c.sum(ctx, j.label, j.src, j.from)
	if err != nil {
		return false, err
	}
	b, err := c.sum(ctx, j.label, j.dst, j.to)
	if isMissing(err) {
		return false, nil
	}
	return a == b, err
}

func (c *copier) sum(ctx context.Context, label string, src tree.Source, p tree.Path) (tree.Digest, error) {
	return retryValue(ctx, c, label, func() (tree.Digest, error) { return sum(ctx, src, p, c.memory) })
}

// mended returns the attributes that a file which needs no copy lacks. Those of
// what a symlink leads to cannot be set by its name.
func (c *copier) mended(j *job) tree.Attr {
	var attr tree.Attr
	if c.opt.Overwrite != OverwriteAlways || c.opt.DryRun || j.there == nil || j.linked || j.there.Kind != tree.KindFile {
		return attr
	}
	if c.opt.Preserve.Mode && j.entry.Perm&0o777 != j.there.Perm&0o777 {
		attr.Perm = ptr(j.entry.Perm & 0o777)
	}
	if c.opt.Preserve.Times && c.opt.Checksum && !tree.SameTime(j.entry.Mtime, j.there.Mtime, grainOf(j.entry, *j.there)) {
		attr.Mtime = &j.entry.Mtime
	}
	return attr
}

func ptr[T any](v T) *T { return &v }
