package transfer

import (
	"context"
	"fmt"

	"transferd/internal/tree"
)

// done reports whether what is at the destination makes copying j needless, and
// an error when it is something that a file must not replace.
func (c *copier) done(ctx context.Context, j job) (bool, error) {
	if j.there == nil {
		return false, nil
	}
	there := *j.there
	switch there.Kind {
	case tree.KindDir:
		return false, fmt.Errorf("%s: destination %s %w", j.label, j.to, tree.ErrIsDir)
	case tree.KindFile:
	default:
		return false, nil
	}
	grain := max(j.entry.Grain, there.Grain)
	switch c.opt.Overwrite {
	case OverwriteNever:
		return true, nil
	case OverwriteNewer:
		newer := j.entry.Mtime.After(there.Mtime) && !tree.SameTime(j.entry.Mtime, there.Mtime, grain)
		if !newer {
			return true, nil
		}
	case OverwriteAlways:
	}
	if j.entry.Size != there.Size {
		return false, nil
	}
	if c.opt.Checksum {
		return c.sameDigest(ctx, j)
	}
	return tree.SameTime(j.entry.Mtime, there.Mtime, grain), nil
}

// sameDigest compares both files by reading them.
func (c *copier) sameDigest(ctx context.Context, j job) (bool, error) {
	a, err := sum(ctx, j.src, j.from)
	if err != nil {
		return false, err
	}
	b, err := sum(ctx, j.dst, j.to)
	if isMissing(err) {
		return false, nil
	}
	return a == b, err
}

// mend gives a file that needs no copy the attributes that it should have.
func (c *copier) mend(ctx context.Context, j job) error {
	if c.opt.Overwrite != OverwriteAlways || c.opt.DryRun {
		return nil
	}
	var attr tree.Attr
	if c.opt.Preserve.Mode && j.entry.Perm&0o777 != j.there.Perm&0o777 {
		attr.Perm = ptr(j.entry.Perm & 0o777)
	}
	if c.opt.Preserve.Times && c.opt.Checksum {
		attr.Mtime = &j.entry.Mtime
	}
	if attr.IsZero() {
		return nil
	}
	return c.retry(ctx, j.label, func() error { return j.dst.SetAttr(ctx, j.to, attr) })
}

func ptr[T any](v T) *T { return &v }
