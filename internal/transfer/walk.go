package transfer

import (
	"context"
	"fmt"

	"transferd/internal/tree"
)

// maxDepth stops a walk that has no end in spite of everything.
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
	trail  *trail    // directories above, where symlinks are followed
	root   *copiedTree
	untidy bool // something of an unfinished copy lies in the parent of to
}

func (p pair) join(name string) pair {
	p.from, p.to, p.below = p.from.Join(name), p.to.Join(name), p.below.Join(name)
	p.label += "/" + name
	p.origin += "/" + name
	return p
}

// walk starts the copies of everything in directory p. old is what the
// directory of the copy was before, nil if it was just made and is empty.
//
// Like all that walk calls it returns only what stops the whole copy; what
// failed otherwise has been recorded.
func (c *copier) walk(ctx context.Context, p pair, entry tree.Entry, old *tree.Entry, depth int) error {
	if depth > maxDepth {
		return c.failIn(ctx, p, fmt.Errorf("%s: directories are nested more than %d deep", p.label, maxDepth))
	}
	d := openDir{pair: p, entry: entry, old: old, depth: depth}
	if depth == 0 {
		p.root.top = d
	} else {
		c.dirs = append(c.dirs, d)
	}
	var there map[string]tree.Entry
	if old != nil {
		var err error
		if there, err = c.namesIn(ctx, p.label, p.dst, p.to); err != nil {
			return c.failIn(ctx, p, err)
		}
	}
	p.untidy = holdsPartials(there)
	entries, err := retryValue(ctx, c, p.label, func() ([]tree.Entry, error) { return list(ctx, p.src, p.from) })
	if err != nil {
		return c.failIn(ctx, p, err)
	}
	if p.root.isSource(entries) {
		return c.failIn(ctx, p, &UsageError{What: p.label + " is where the copy goes: it is not copied into itself"})
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		var was *tree.Entry
		if o, ok := there[e.Name]; ok {
			was = &o
		}
		if err := c.visit(ctx, p.join(e.Name), e, was, depth); err != nil {
			return err
		}
	}
	return nil
}

func holdsPartials(names map[string]tree.Entry) bool {
	for name := range names {
		if tree.IsPartialName(name) {
			return true
		}
	}
	return false
}

func (c *copier) failIn(ctx context.Context, p pair, err error) error {
	return c.fail(ctx, p.root, 0, p.label, err)
}

// visit deals with one entry of a directory; old is what has its name at the
// destination.
func (c *copier) visit(ctx context.Context, p pair, e tree.Entry, old *tree.Entry, depth int) error {
	if tree.IsPartialName(e.Name) {
		return nil
	}
	link := e
	if c.opt.Follow && e.Kind == tree.KindSymlink {
		target, err := retryValue(ctx, c, p.label, func() (tree.Entry, error) { return p.src.Stat(ctx, p.from) })
		if err != nil {
			return c.failIn(ctx, p, err)
		}
		target.Name = e.Name
		e = target
	}
	if !c.filter.keeps(p.below, e.IsDir()) {
		return nil
	}
	switch e.Kind {
	case tree.KindDir:
		if c.opt.Follow {
			if p.trail.leadsBack(e, link) {
				return c.failIn(ctx, p, fmt.Errorf("%s: leads back to a directory that it is in", p.label))
			}
			p.trail = p.trail.enter(e, link)
		}
		return c.subdirectory(ctx, p, e, old, depth)
	case tree.KindSymlink:
		c.group.Go(func() error {
			if err := c.symlink(ctx, p, e, old); err != nil {
				return c.failIn(ctx, p, err)
			}
			return nil
		})
		return nil
	case tree.KindFile:
		return c.queue(ctx, job{
			src: p.src, from: p.from, dst: p.dst, to: p.to,
			label: p.label, origin: p.origin, entry: e, there: old, root: p.root, untidy: p.untidy,
		})
	case tree.KindUnknown, tree.KindFIFO, tree.KindSocket, tree.KindCharDevice, tree.KindBlockDevice:
	}
	return c.failIn(ctx, p, fmt.Errorf("%s: %w: a %s is not copied", p.label, tree.ErrNotRegular, e.Kind))
}

// subdirectory makes the copy of directory p and walks into it.
func (c *copier) subdirectory(ctx context.Context, p pair, e tree.Entry, old *tree.Entry, depth int) error {
	var err error
	switch {
	case p.root.isTop(e):
		err = &UsageError{What: p.label + " is where the copy goes: it is not copied into itself"}
	case old != nil && !old.IsDir():
		err = fmt.Errorf("%s: its copy %s is there already: %w", p.label, p.to, tree.ErrNotDir)
	case c.opt.DryRun:
	case old == nil:
		err = c.retry(ctx, p.label, func() error { return ignoreExist(p.dst.Mkdir(ctx, p.to, c.openPerm(e))) })
	default:
		err = c.openUp(ctx, p, *old)
	}
	if err != nil {
		return c.failIn(ctx, p, err)
	}
	return c.walk(ctx, p, e, old, depth+1)
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
