package transfer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"transferd/internal/tree"
)

// symlink makes the copy of symlink p, unless old is that already.
func (c *copier) symlink(ctx context.Context, p *pair, e tree.Entry, old *tree.Entry) error {
	status := Linked
	switch {
	case old == nil:
	case old.IsDir():
		return fmt.Errorf("%s: its copy %s is there already: %w", p.label, p.to, tree.ErrIsDir)
	case c.opt.Overwrite == OverwriteNever, c.opt.Overwrite == OverwriteNewer && !isNewer(e, *old):
		status = Skipped
	case old.Kind == tree.KindSymlink && old.Link == e.Link:
		status = Skipped
		if c.opt.Preserve.Times && !c.opt.DryRun && !tree.SameTime(e.Mtime, old.Mtime, grainOf(e, *old)) {
			if err := c.retry(ctx, p.label, func() error { return c.dateSymlink(ctx, p.dst, p.to, e) }); err != nil {
				return err
			}
		}
	}
	switch {
	case status == Skipped:
		c.skipped.Add(1)
	case c.opt.DryRun:
		status = Planned
		c.files.Add(1)
	default:
		if err := c.retry(ctx, p.label, func() error { return c.makeSymlink(ctx, p, e, old != nil) }); err != nil {
			return err
		}
		c.files.Add(1)
	}
	c.emit(Finished{ID: c.ids.Add(1), Path: p.label, Transport: transportBetween(p.src, p.dst), Status: status})
	return nil
}

// makeSymlink makes the copy of symlink p. What is to be replaced stays until
// the symlink is there: that is made under another name and renamed.
func (c *copier) makeSymlink(ctx context.Context, p *pair, e tree.Entry, replace bool) error {
	if !replace {
		err := p.dst.Symlink(ctx, e.Link, p.to)
		if err == nil {
			return c.dateSymlink(ctx, p.dst, p.to, e)
		}
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		// An earlier attempt may have made it before the connection broke.
		there, err := p.dst.Lstat(ctx, p.to)
		switch {
		case err != nil:
			return err
		case there.Kind == tree.KindSymlink && there.Link == e.Link:
			return c.dateSymlink(ctx, p.dst, p.to, e)
		case there.IsDir():
			return fmt.Errorf("%s: its copy %s is there already: %w", p.label, p.to, tree.ErrIsDir)
		}
	}
	tmp := p.to.Parent().Join(tree.PartialName(p.origin, p.to.Base()) + ".part")
	if err := p.dst.Remove(ctx, tmp); err != nil && !isMissing(err) {
		return err
	}
	if err := p.dst.Symlink(ctx, e.Link, tmp); err != nil {
		return err
	}
	if err := c.dateSymlink(ctx, p.dst, tmp, e); err != nil {
		return err
	}
	return p.dst.Rename(ctx, tmp, p.to, tree.RenameReplace)
}

// dateSymlink gives the symlink at p the times of e where that is wanted and
// can be done: they are not worth failing for.
func (c *copier) dateSymlink(ctx context.Context, dst tree.Sink, p tree.Path, e tree.Entry) error {
	if !c.opt.Preserve.Times {
		return nil
	}
	err := dst.SetAttr(ctx, p, tree.Attr{Mtime: &e.Mtime, Atime: &e.Atime})
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}
