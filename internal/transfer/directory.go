package transfer

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync/atomic"

	"transferd/internal/tree"
)

// An openDir is a directory of the copy from when the walk comes to it until
// nothing more is made in it: then it gets its attributes, which may make it
// unreadable, and is forgotten.
type openDir struct {
	pair
	entry tree.Entry
	old   *tree.Entry // what it was before this copy, nil if it was made by it
	depth int
	up    *openDir // that it is in; nil for the root

	made   bool         // it exists, so that it can get attributes; set by its walk
	untidy bool         // something of an unfinished copy lies in it
	inside atomic.Int64 // what has entered it and not left: its walk, files, directories
}

func (d *openDir) enter() { d.inside.Add(1) }

// leave notes that something in d has come to its end. With the last of it d
// comes to its own, and so on upwards; the root of a copy is left to finishRoot.
func (c *copier) leave(ctx context.Context, d *openDir) error {
	for ; d != nil && d.inside.Add(-1) == 0 && d.up != nil; d = d.up {
		if err := c.finishDir(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// A copiedTree is one directory operand and its copy.
type copiedTree struct {
	label string
	at    tree.Path // of the copy in the destination
	mark  string    // the name of its mark, "" if it has none
	id    tree.Entry
	local bool     // both ends are on this machine's disks, where id tells the same directory
	top   *openDir // nil before the walk has begun
	ways  *ways

	closers []io.Closer // what it holds open
	failed  atomic.Bool // something in it
}

// isTop reports whether e, met in the source, is the copy itself.
func (t *copiedTree) isTop(e tree.Entry) bool {
	return t.local && e.Inode != 0 && e.Inode == t.id.Inode && e.Device == t.id.Device
}

// isSource reports whether a directory of the source that holds entries is the
// copy itself. Its mark gives it away, which no other directory has.
func (t *copiedTree) isSource(entries []tree.Entry) bool {
	return t.mark != "" && slices.ContainsFunc(entries, func(e tree.Entry) bool { return e.Name == t.mark })
}

func (t *copiedTree) close() error {
	var errs []error
	for _, c := range t.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// directory copies the directory l.
func (c *copier) directory(ctx context.Context, l landing) error {
	t := &copiedTree{
		label: trimLabel(l.src.Label), at: l.to,
		local: transportOf(l.src.Tree) == "" && transportOf(c.sink) == "",
	}
	c.roots = append(c.roots, t)
	p := pair{
		src: l.src.Tree, from: l.src.Path, dst: c.sink, to: l.to,
		label: t.label, origin: l.src.origin(c.opt.Machine, l.src.Path), below: tree.Root, root: t,
	}
	if c.opt.Follow {
		p.trail = p.trail.enter(l.entry, l.entry)
	}
	var old *tree.Entry
	var err error
	if c.opt.DryRun {
		old = l.there
	} else {
		old, err = c.openTree(ctx, &p, l)
	}
	if err != nil {
		return c.failIn(ctx, &p, err)
	}
	t.ways = c.waysOf(ctx, l.src.Host, p.src, p.dst, &links{})
	t.top = &openDir{pair: p, entry: l.entry, old: old}
	return c.walk(ctx, t.top)
}

// openTree makes the root of a directory copy if it must, and makes p refer to
// trees that hold both ends, so that no name met on the way leads out of them.
// It returns what the root was before, nil if it is of this copy.
func (c *copier) openTree(ctx context.Context, p *pair, l landing) (old *tree.Entry, err error) {
	t := p.root
	mark := markName(p.origin, p.to)
	if l.there == nil {
		t.mark = mark
		if err := c.retry(ctx, p.label, func() error { return c.makeRoot(ctx, *p, l.entry, mark) }); err != nil {
			return nil, err
		}
	} else {
		unfinished, err := c.isUnfinished(ctx, p.label, p.origin, p.to)
		if err != nil {
			return nil, err
		}
		if unfinished {
			t.mark = mark
		}
	}
	if s, ok := p.src.(tree.Suber); ok && !c.opt.Follow {
		if p.src, err = c.hold(ctx, t, s, p.from); err != nil {
			return nil, err
		}
		p.from = tree.Root
	}
	if s, ok := p.dst.(tree.Suber); ok {
		if p.dst, err = c.hold(ctx, t, s, p.to); err != nil {
			return nil, err
		}
		p.to = tree.Root
	}
	t.id, err = retryValue(ctx, c, p.label, func() (tree.Entry, error) { return p.dst.Stat(ctx, p.to) })
	if err != nil {
		return nil, err
	}
	return l.there, c.openUp(ctx, *p, t.id)
}

// hold opens the tree below directory p of s for as long as t is copied.
func (c *copier) hold(ctx context.Context, t *copiedTree, s tree.Suber, p tree.Path) (tree.SubTree, error) {
	sub, err := retryValue(ctx, c, t.label, func() (tree.SubTree, error) { return s.Sub(ctx, p) })
	if err != nil {
		return nil, err
	}
	t.closers = append(t.closers, sub)
	return sub, nil
}

// openPerm is the mode that a directory is made with: its own, and what is
// needed to fill it.
func (c *copier) openPerm(e tree.Entry) tree.Perm { return *c.attr(e).Perm&0o777 | 0o700 }

// openUp makes the existing directory p.to of the copy, which is now, fit to be
// filled. One that belongs to somebody else may be so as it is.
func (c *copier) openUp(ctx context.Context, p pair, now tree.Entry) error {
	if now.Perm&0o700 == 0o700 {
		return nil
	}
	perm := now.Perm&0o777 | 0o700
	err := c.retry(ctx, p.label, func() error { return p.dst.SetAttr(ctx, p.to, tree.Attr{Perm: &perm}) })
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}

// finishRoots finishes the roots of directory copies, when all in them is done.
func (c *copier) finishRoots(ctx context.Context) error {
	if c.opt.DryRun {
		return nil
	}
	for _, t := range c.roots {
		if t.top == nil {
			continue // its walk never began
		}
		if err := c.finishRoot(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// finishDir sets the attributes of d.
func (c *copier) finishDir(ctx context.Context, d *openDir) error {
	if !d.made || c.opt.DryRun {
		return nil
	}
	attr := c.attr(d.entry)
	if d.old != nil && d.root.mark == "" && !c.opt.Preserve.Mode {
		// It was not made by this copy: it keeps its mode, or gets it back.
		attr.Perm = nil
		if d.old.Perm&0o700 != 0o700 {
			attr.Perm = ptr(d.old.Perm & 0o777)
		}
	}
	var err error
	attr.Xattrs, err = retryValue(ctx, c, d.label, func() ([]tree.Xattr, error) {
		return c.xattrsOf(ctx, d.root.ways, d.from, d.old != nil)
	})
	if err != nil {
		return c.fail(ctx, d.root, 0, d.label, err)
	}
	set := func() error { return c.retry(ctx, d.label, func() error { return d.dst.SetAttr(ctx, d.to, attr) }) }
	if attr.IsZero() {
		return nil
	}
	err = set()
	if errors.Is(err, errors.ErrUnsupported) && attr.Xattrs != nil {
		c.noXattrs()
		attr.Xattrs = nil
		err = set()
	}
	if errors.Is(err, fs.ErrPermission) && attr.Owner != nil {
		// Only root gives things away. Files are left to their copier as well.
		attr.Owner = nil
		if attr.Perm != nil {
			attr.Perm = ptr(*attr.Perm & 0o777)
		}
		err = set()
	}
	if err != nil {
		return c.fail(ctx, d.root, 0, d.label, err)
	}
	return nil
}

// trimLabel removes the slashes at the end of an operand's name.
func trimLabel(label string) string {
	if t := strings.TrimRight(label, "/"); t != "" {
		return t
	}
	return label
}
