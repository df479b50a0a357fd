package transfer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"transferd/internal/tree"
)

// links knows the files that have more names than one, while not all of their
// names were met. The zero value is ready.
type links struct {
	mu    sync.Mutex // guards known and what it holds
	known map[fileID]*namesake
}

// A fileID tells a file from all others of a command.
type fileID struct {
	host          string
	device, inode uint64
}

// A namesake is a file that is met by several names. The first that is copied
// gets the others as hard links.
type namesake struct {
	id      fileID
	names   uint64     // of the source that were met
	at      *tree.Path // the copy, once there is one
	entry   tree.Entry // what it is a copy of
	fresh   bool       // it was made by this command
	waiting []*job     // names that were met before that
}

// follow notes j, a file with several names. It reports whether j became one
// more name of a file that was met before, so that there is nothing more to do.
func (c *copier) follow(ctx context.Context, j *job) (bool, error) {
	l := j.ways.links
	l.mu.Lock()
	id := fileID{host: j.ways.host, device: j.entry.Device, inode: j.entry.Inode}
	n := l.known[id]
	if n == nil {
		n = &namesake{id: id}
		if l.known == nil {
			l.known = map[fileID]*namesake{}
		}
		l.known[id] = n
	}
	j.names = n
	n.names++
	if n.names == 1 {
		l.mu.Unlock()
		return false, nil
	}
	j.name()
	if j.dir != nil {
		j.dir.enter()
	}
	first := n.at
	if first == nil {
		n.waiting = append(n.waiting, j)
	}
	l.forget(n, j.entry.Nlink)
	l.mu.Unlock()
	if first == nil {
		return true, nil
	}
	return true, c.crew.do(ctx, func() error { return c.linkJob(ctx, j, *first) })
}

// forget drops n when nothing more will be asked of it.
func (l *links) forget(n *namesake, all uint64) {
	if n.at != nil && n.names >= all {
		delete(l.known, n.id)
	}
}

// nameRest makes the names that waited for j, now that it has come to its end.
// If that was no good one, the next of them takes its place.
func (c *copier) nameRest(ctx context.Context, j *job) error {
	l, n := j.ways.links, j.names
	for {
		l.mu.Lock()
		if j.copied {
			n.at, n.entry, n.fresh = &j.to, j.entry, j.fresh
			l.forget(n, j.entry.Nlink)
		}
		rest := n.waiting
		n.waiting = nil
		var next *job
		switch {
		case n.at == nil && len(rest) == 0:
			delete(l.known, n.id)
		case n.at == nil:
			next, n.waiting, rest = rest[0], rest[1:], nil
		}
		l.mu.Unlock()
		for _, w := range rest {
			if err := c.linkJob(ctx, w, *n.at); err != nil {
				return err
			}
		}
		if next == nil {
			return nil
		}
		j = next
		if err := c.endJob(ctx, j, c.skipOrCopy(ctx, j)); err != nil {
			return err
		}
	}
}

// linkJob brings j to its end as one more name of first.
func (c *copier) linkJob(ctx context.Context, j *job, first tree.Path) error {
	// A file that looks right is, unless what it was a name of has been replaced.
	if !j.names.fresh || c.opt.Overwrite != OverwriteAlways || j.there == nil || j.there.Kind != tree.KindFile {
		settled, err := c.skip(ctx, j)
		if settled || err != nil {
			return c.endJob(ctx, j, err)
		}
	}
	if !sameContents(j.names.entry, j.entry) {
		return c.endJob(ctx, j, c.copyFile(ctx, j))
	}
	err := c.retry(ctx, j.label, func() error { return c.link(ctx, j, first) })
	switch {
	case err == nil:
		c.files.Add(1)
		c.emit(Finished{
			ID: c.ids.Add(1), Path: j.label, Size: j.entry.Size, Transport: transportBetween(j.src, j.dst), Status: HardLinked,
		})
		c.tidy(ctx, j)
	case fatal(err) || ctx.Err() != nil:
		err = c.fail(ctx, j.root(), 0, j.label, err)
	default:
		if errors.Is(err, errors.ErrUnsupported) {
			c.hint(&c.said.links, "the destination makes no hard links; files with several names are copied as often")
		}
		err = c.copyFile(ctx, j)
	}
	return c.endJob(ctx, j, err)
}

// sameContents reports whether what was met by two names looks like one file. It
// may have been written to in between, or another one have got its number.
func sameContents(a, b tree.Entry) bool {
	return a.Size == b.Size && tree.SameTime(a.Mtime, b.Mtime, grainOf(a, b))
}

// link makes the name j.to for what first is. Another file that has the name
// stays until it is there.
func (c *copier) link(ctx context.Context, j *job, first tree.Path) error {
	if j.there == nil {
		err := j.ways.link.Link(ctx, first, j.to)
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		// Perhaps by an attempt before the connection broke.
		if c.opt.Overwrite == OverwriteNever {
			return fmt.Errorf("%s: %w", j.label, err)
		}
	}
	tmp := j.to.Parent().Join(tree.PartialName(j.origin, j.to.Base()) + ".part")
	if err := ignoreMissing(j.dst.Remove(ctx, tmp)); err != nil {
		return err
	}
	if err := j.ways.link.Link(ctx, first, tmp); err != nil {
		return err
	}
	if err := j.dst.Rename(ctx, tmp, j.to, tree.RenameReplace); err != nil {
		return err
	}
	// Where both were names of one file already, rename(2) leaves them alone.
	return ignoreMissing(j.dst.Remove(ctx, tmp))
}
