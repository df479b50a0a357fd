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
}

// join returns what becomes of name in directory p.
func (p *pair) join(name string) pair {
	q := *p
	q.from = p.from.Join(name)
	// Below held trees they are mostly the same.
	q.to, q.below = q.from, q.from
	if p.to != p.from {
		q.to = p.to.Join(name)
	}
	if p.below != p.from {
		q.below = p.below.Join(name)
	}
	q.label, q.origin = p.label+"/"+name, p.origin+"/"+name
	return q
}

// walk makes directory d of the copy and starts the copies of everything in it.
// The source is listed while the copy is made and looked at.
//
// Like all that walk calls it returns only what stops the whole copy; what
// failed otherwise has been recorded. What it was called for is at its end when
// leave has been called as often as something entered d.
func (c *copier) walk(ctx context.Context, d *openDir) error {
	if d.depth > maxDepth {
		return c.failIn(ctx, &d.pair, fmt.Errorf("%s: directories are nested more than %d deep", d.label, maxDepth))
	}
	entries := c.list(ctx, d.label, d.src, d.from)
	defer entries.stop()
	if err := c.prepare(ctx, d); err != nil {
		return c.failIn(ctx, &d.pair, err)
	}
	d.made = true
	var there *names
	if d.old != nil {
		var err error
		if there, err = c.namesIn(ctx, d.label, d.dst, d.to); err != nil {
			return c.failIn(ctx, &d.pair, err)
		}
		d.untidy = there.partials
	}
	first := true
	for batch := range entries.batches {
		if first {
			if err := c.notItself(ctx, d, batch); err != nil {
				return c.failIn(ctx, &d.pair, err)
			}
		}
		first = false
		c.findAll(d, batch)
		for i := range batch {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := c.visit(ctx, d, &batch[i], there); err != nil {
				return err
			}
		}
	}
	if entries.err != nil {
		return c.failIn(ctx, &d.pair, entries.err)
	}
	return nil
}

// notItself fails if d, which begins with batch, is the copy itself.
func (c *copier) notItself(ctx context.Context, d *openDir, batch []tree.Entry) error {
	is := d.root.isSource(batch)
	if !is && d.root.mark != "" && len(batch) == firstEntries {
		// The mark may come behind them.
		_, err := retryValue(ctx, c, d.label, func() (tree.Entry, error) { return d.src.Lstat(ctx, d.from.Join(d.root.mark)) })
		if err != nil && !isMissing(err) {
			return err
		}
		is = err == nil
	}
	if is {
		return itself(d.label)
	}
	return nil
}

func itself(label string) error {
	return &UsageError{What: label + " is where the copy goes: it is not copied into itself"}
}

// findAll adds the files of batch to what there is to copy. What symlinks lead
// to is not known yet.
func (c *copier) findAll(d *openDir, batch []tree.Entry) {
	var files, size int64
	for i := range batch {
		e := &batch[i]
		if e.Kind != tree.KindFile || tree.IsPartialName(e.Name) {
			continue
		}
		if !c.filter.isEmpty() && !c.filter.keeps(d.below.Join(e.Name), false) {
			continue
		}
		files++
		size += e.Size
	}
	if files > 0 {
		c.find(files, size)
	}
}

func (c *copier) failIn(ctx context.Context, p *pair, err error) error {
	return c.fail(ctx, p.root, 0, p.label, err)
}

// visit deals with one entry of directory d, in whose copy there is.
func (c *copier) visit(ctx context.Context, d *openDir, e *tree.Entry, there *names) error {
	if tree.IsPartialName(e.Name) {
		return nil
	}
	link := *e
	if c.opt.Follow && e.Kind == tree.KindSymlink {
		p := d.join(e.Name)
		target, err := retryValue(ctx, c, p.label, func() (tree.Entry, error) { return p.src.Stat(ctx, p.from) })
		if err != nil {
			return c.failIn(ctx, &p, err)
		}
		target.Name = e.Name
		e = &target
	}
	if !c.filter.isEmpty() && !c.filter.keeps(d.below.Join(e.Name), e.IsDir()) {
		return nil
	}
	old := there.get(e.Name)
	if e.Kind == tree.KindFile {
		if link.Kind != tree.KindFile {
			c.find(1, e.Size)
		}
		return c.queue(ctx, d.file(*e, old))
	}
	p := d.join(e.Name)
	switch e.Kind {
	case tree.KindDir:
		if c.opt.Follow {
			if p.trail.leadsBack(*e, link) {
				return c.failIn(ctx, &p, fmt.Errorf("%s: leads back to a directory that it is in", p.label))
			}
			p.trail = p.trail.enter(*e, link)
		}
		return c.subdirectory(ctx, &openDir{pair: p, entry: *e, old: old, depth: d.depth + 1, up: d})
	case tree.KindSymlink:
		d.enter()
		entry := *e
		return c.crew.do(ctx, func() error {
			if err := c.symlink(ctx, &p, entry, old); err != nil {
				if err := c.failIn(ctx, &p, err); err != nil {
					return err
				}
			}
			return c.leave(ctx, d)
		})
	case tree.KindFile, tree.KindUnknown, tree.KindFIFO, tree.KindSocket, tree.KindCharDevice, tree.KindBlockDevice:
	}
	return c.failIn(ctx, &p, fmt.Errorf("%s: %w: a %s is not copied", p.label, tree.ErrNotRegular, e.Kind))
}

// file is the job of copying file e of directory d; old is what has its name in
// the copy.
func (d *openDir) file(e tree.Entry, old *tree.Entry) *job {
	j := &job{src: d.src, from: d.from.Join(e.Name), dst: d.dst, entry: e, there: old, dir: d, untidy: d.untidy, ways: d.root.ways}
	if j.to = j.from; d.to != d.from {
		j.to = d.to.Join(e.Name)
	}
	return j
}

// subdirectory copies directory d, beside its caller if a walker is free.
func (c *copier) subdirectory(ctx context.Context, d *openDir) error {
	d.enter()
	d.up.enter()
	walk := func() error {
		if err := c.walk(ctx, d); err != nil {
			return err
		}
		return c.leave(ctx, d)
	}
	select {
	case c.walkers <- struct{}{}:
	default:
		return walk() // to wait for one could be to wait for ever
	}
	c.walks.Add(1)
	c.group.Go(func() error {
		defer c.walks.Done()
		defer func() { <-c.walkers }()
		return walk()
	})
	return nil
}

// prepare makes directory d of the copy, or makes an existing one fit to be
// filled. The root is so already.
func (c *copier) prepare(ctx context.Context, d *openDir) error {
	switch {
	case d.up == nil:
		return nil
	case d.root.isTop(d.entry):
		return itself(d.label)
	case d.old != nil && !d.old.IsDir():
		return fmt.Errorf("%s: its copy %s is there already: %w", d.label, d.to, tree.ErrNotDir)
	case c.opt.DryRun:
		return nil
	case d.old == nil:
		return c.retry(ctx, d.label, func() error { return ignoreExist(d.dst.Mkdir(ctx, d.to, c.openPerm(d.entry))) })
	}
	return c.openUp(ctx, d.pair, *d.old)
}
