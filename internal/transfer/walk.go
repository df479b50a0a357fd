package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"

	"transferd/internal/tree"
)

// maxDepth stops a walk that follows symlinks in a circle.
const maxDepth = 512

// A pair is a directory of the source and what becomes its copy, both as paths
// of trees that the walk holds.
type pair struct {
	src    tree.Source
	from   tree.Path
	dst    tree.Sink
	to     tree.Path
	label  string    // of from, for messages
	origin string    // of from
	below  tree.Path // of from, below the operand: what filters see
}

func (p pair) join(name string) pair {
	p.from, p.to, p.below = p.from.Join(name), p.to.Join(name), p.below.Join(name)
	p.label += "/" + name
	p.origin += "/" + name
	return p
}

// An openDir is a directory of the copy that gets its attributes at the end,
// when nothing more is made in it.
type openDir struct {
	pair
	entry tree.Entry
	depth int
}

// A copiedTree is the root of one directory copy, and what it holds open.
type copiedTree struct {
	closers []io.Closer
	sink    tree.Sink
	root    tree.Path
	marker  string // the unfinished mark in it, "" if none was needed
}

func (t copiedTree) close() error {
	var errs []error
	for _, c := range t.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// directory copies the directory l.
func (c *copier) directory(ctx context.Context, l landing) error {
	p := pair{
		src: l.src.Tree, from: l.src.Path, dst: c.sink, to: l.to,
		label: trimLabel(l.src.Label), origin: l.src.origin(c.opt.Machine, l.src.Path), below: tree.Root,
	}
	if c.opt.DryRun {
		if err := c.walk(ctx, p, l.entry, l.fresh, 0); err != nil {
			return c.fail(0, p.label, err)
		}
		return nil
	}
	t, err := c.openTree(ctx, &p, l)
	c.trees = append(c.trees, t)
	if err == nil {
		err = c.walk(ctx, p, l.entry, l.fresh, 0)
	}
	if err != nil {
		return c.fail(0, p.label, err)
	}
	return nil
}

// openTree makes the root of a directory copy if it must, and makes p refer to
// trees that hold both ends, so that no name met on the way leads out of them.
func (c *copier) openTree(ctx context.Context, p *pair, l landing) (copiedTree, error) {
	var t copiedTree
	err := c.retry(ctx, p.label, func() (err error) {
		t.marker, err = c.makeRoot(ctx, *p, l)
		return err
	})
	if err != nil {
		return t, err
	}
	if s, ok := p.src.(tree.Suber); ok && !c.opt.Follow {
		sub, err := retryValue(ctx, c, p.label, func() (tree.SubTree, error) { return s.Sub(ctx, p.from) })
		if err != nil {
			return t, err
		}
		t.closers = append(t.closers, sub)
		p.src, p.from = sub, tree.Root
	}
	if s, ok := p.dst.(tree.Suber); ok {
		sub, err := retryValue(ctx, c, p.label, func() (tree.SubTree, error) { return s.Sub(ctx, p.to) })
		if err != nil {
			return t, err
		}
		t.closers = append(t.closers, sub)
		p.dst, p.to = sub, tree.Root
	}
	t.sink, t.root = p.dst, p.to
	return t, nil
}

// walk starts the copies of everything in directory p. fresh says that its copy
// was just made and is empty.
func (c *copier) walk(ctx context.Context, p pair, entry tree.Entry, fresh bool, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%s: directories are nested more than %d deep", p.label, maxDepth)
	}
	c.dirs = append(c.dirs, openDir{pair: p, entry: entry, depth: depth})
	there, err := c.listThere(ctx, p, fresh)
	if err != nil {
		return err
	}
	entries, err := retryValue(ctx, c, p.label, func() ([]tree.Entry, error) { return list(ctx, p.src, p.from) })
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		var old *tree.Entry
		if o, ok := there[e.Name]; ok {
			old = &o
		}
		if err := c.visit(ctx, p.join(e.Name), e, old, depth); err != nil {
			return err
		}
	}
	return nil
}

// visit deals with one entry of a directory; old is what has its name at the
// destination. Only an error that stops the whole copy is returned.
func (c *copier) visit(ctx context.Context, p pair, e tree.Entry, old *tree.Entry, depth int) error {
	if tree.IsPartialName(e.Name) {
		return nil
	}
	if c.opt.Follow && e.Kind == tree.KindSymlink {
		target, err := retryValue(ctx, c, p.label, func() (tree.Entry, error) { return p.src.Stat(ctx, p.from) })
		if err != nil {
			return c.fail(0, p.label, err)
		}
		target.Name = e.Name
		e = target
	}
	if !c.filter.keeps(p.below, e.IsDir()) {
		return nil
	}
	switch e.Kind {
	case tree.KindDir:
		return c.subdirectory(ctx, p, e, old, depth)
	case tree.KindSymlink:
		c.group.Go(func() error {
			if err := c.symlink(ctx, p, e, old); err != nil {
				return c.fail(0, p.label, err)
			}
			return nil
		})
		return nil
	case tree.KindFile:
		return c.queue(ctx, job{
			src: p.src, from: p.from, dst: p.dst, to: p.to,
			label: p.label, origin: p.origin, entry: e, there: old,
		})
	default:
		return c.fail(0, p.label, fmt.Errorf("%s: %w: a %s is not copied", p.label, tree.ErrNotRegular, e.Kind))
	}
}

// subdirectory makes the copy of directory p and walks into it.
func (c *copier) subdirectory(ctx context.Context, p pair, e tree.Entry, old *tree.Entry, depth int) error {
	fresh := old == nil
	var err error
	switch {
	case c.opt.DryRun:
	case fresh:
		err = c.retry(ctx, p.label, func() error { return ignoreExist(p.dst.Mkdir(ctx, p.to, 0o700)) })
	case !old.IsDir():
		err = fmt.Errorf("%s: its copy %s is there already: %w", p.label, p.to, tree.ErrNotDir)
	case old.Perm&0o700 != 0o700:
		perm := old.Perm&0o777 | 0o700
		err = c.retry(ctx, p.label, func() error { return p.dst.SetAttr(ctx, p.to, tree.Attr{Perm: &perm}) })
	}
	if err == nil {
		err = c.walk(ctx, p, e, fresh, depth+1)
	}
	if err != nil {
		return c.fail(0, p.label, err)
	}
	return nil
}

// symlink makes the copy of symlink p.
func (c *copier) symlink(ctx context.Context, p pair, e tree.Entry, old *tree.Entry) error {
	status := Linked
	switch {
	case old != nil && old.Kind == tree.KindSymlink && old.Link == e.Link,
		old != nil && c.opt.Overwrite == OverwriteNever:
		status = Skipped
		c.skipped.Add(1)
	case old != nil && old.IsDir():
		return fmt.Errorf("%s: its copy %s is there already: %w", p.label, p.to, tree.ErrIsDir)
	case c.opt.DryRun:
		status = Planned
		c.files.Add(1)
	default:
		if err := c.retry(ctx, p.label, func() error { return c.makeSymlink(ctx, p, e, old) }); err != nil {
			return err
		}
		c.files.Add(1)
	}
	c.emit(Finished{ID: c.ids.Add(1), Path: p.label, Transport: c.transport(job{src: p.src, dst: p.dst}), Status: status})
	return nil
}

func (c *copier) makeSymlink(ctx context.Context, p pair, e tree.Entry, old *tree.Entry) error {
	if old != nil {
		if err := p.dst.Remove(ctx, p.to); err != nil && !isMissing(err) {
			return err
		}
	}
	// An earlier attempt may have made it before the connection broke.
	if err := ignoreExist(p.dst.Symlink(ctx, e.Link, p.to)); err != nil {
		return err
	}
	if !c.opt.Preserve.Times {
		return nil
	}
	err := p.dst.SetAttr(ctx, p.to, tree.Attr{Mtime: &e.Mtime, Atime: &e.Atime})
	if errors.Is(err, errors.ErrUnsupported) {
		return nil // the time of a symlink is not worth failing for
	}
	return err
}

// listThere returns what a directory of the copy holds already, by name.
func (c *copier) listThere(ctx context.Context, p pair, fresh bool) (map[string]tree.Entry, error) {
	if fresh {
		return nil, nil
	}
	names, err := c.namesIn(ctx, p.label, p.dst, p.to)
	if c.opt.DryRun && isMissing(err) {
		return nil, nil
	}
	return names, err
}

// namesIn lists a directory by name.
func (c *copier) namesIn(ctx context.Context, label string, src tree.Source, p tree.Path) (map[string]tree.Entry, error) {
	entries, err := retryValue(ctx, c, label, func() ([]tree.Entry, error) { return list(ctx, src, p) })
	if err != nil {
		return nil, err
	}
	names := make(map[string]tree.Entry, len(entries))
	for _, e := range entries {
		names[e.Name] = e
	}
	return names, nil
}

func list(ctx context.Context, src tree.Source, p tree.Path) ([]tree.Entry, error) {
	var entries []tree.Entry
	for e, err := range src.List(ctx, p) {
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}
