package transfer

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"transferd/internal/tree"
)

// The copy of a directory to a new name is marked as unfinished from the moment
// it has that name until its last file is durable: it holds a file of
// markerName's. The directory is made under that same name, with the mark in
// it, and renamed, so that a kill leaves either nothing or a marked copy, and
// the same command knows it again and does not nest.

// markerName is the name of the mark of a copy from origin at p.
func markerName(origin string, p tree.Path) string {
	return tree.PartialName(origin, p.Base()) + ".dir"
}

// makeRoot makes the directory p.to, marked, unless it exists, and makes it
// writable. It returns the name of the mark in it, "" if there is none. It can
// be called again after it failed half-way.
func (c *copier) makeRoot(ctx context.Context, p pair, l landing) (string, error) {
	marker := markerName(p.origin, p.to)
	if l.fresh {
		if made, err := c.needsDir(ctx, p.to); err != nil || !made {
			return marker, err
		}
		tmp := p.to.Parent().Join(marker)
		if err := ignoreExist(p.dst.Mkdir(ctx, tmp, 0o700)); err != nil {
			return "", err
		}
		if err := putMark(ctx, p.dst, tmp.Join(marker)); err != nil {
			return "", err
		}
		return marker, p.dst.Rename(ctx, tmp, p.to, tree.RenameNoReplace)
	}
	e, err := p.dst.Stat(ctx, p.to)
	if err != nil {
		return "", err
	}
	if e.Perm&0o700 != 0o700 {
		perm := e.Perm&0o777 | 0o700
		if err := p.dst.SetAttr(ctx, p.to, tree.Attr{Perm: &perm}); err != nil {
			return "", err
		}
	}
	_, err = p.dst.Lstat(ctx, p.to.Join(marker))
	if isMissing(err) {
		return "", nil
	}
	return marker, err
}

// putMark makes the mark: an empty file, published like any other.
func putMark(ctx context.Context, dst tree.Sink, p tree.Path) error {
	w, err := dst.Begin(ctx, tree.Upload{Path: p, ChunkSize: tree.MinChunkSize, Origin: "mark"})
	if err != nil {
		return err
	}
	v := tree.ChunkValue(nil, 0, tree.MinChunkSize, true)
	if err := w.WriteChunk(ctx, tree.Chunk{Value: v}); err != nil {
		return suspend(ctx, w, err)
	}
	perm := tree.Perm(0o600)
	_, err = w.Commit(ctx, tree.Final{
		Values: []tree.Value{v}, Digest: tree.Digest(v), HasDigest: true, Attr: tree.Attr{Perm: &perm},
	})
	return err
}

// finishDirs gives the directories of the copy their attributes, the deepest
// first, because a directory may become unreadable by that. A copy in which
// something failed keeps its mark.
func (c *copier) finishDirs(ctx context.Context) error {
	if c.opt.DryRun {
		return nil
	}
	dirs := slices.Clone(c.dirs)
	slices.SortStableFunc(dirs, func(a, b openDir) int { return cmp.Compare(b.depth, a.depth) })
	roots := 0
	for roots < len(dirs) && dirs[len(dirs)-1-roots].depth == 0 {
		roots++
	}
	if err := c.finishSet(ctx, dirs[:len(dirs)-roots]); err != nil {
		return err
	}
	if c.failed.Load() == 0 {
		for _, t := range c.trees {
			if t.marker == "" {
				continue
			}
			err := c.retry(ctx, t.marker, func() error { return t.sink.Remove(ctx, t.root.Join(t.marker)) })
			if err != nil && !isMissing(err) {
				return err
			}
		}
	}
	return c.finishSet(ctx, dirs[len(dirs)-roots:])
}

// finishSet sets the attributes of dirs, equal depths at once.
func (c *copier) finishSet(ctx context.Context, dirs []openDir) error {
	for len(dirs) > 0 {
		n := 1
		for n < len(dirs) && dirs[n].depth == dirs[0].depth {
			n++
		}
		group, gctx := errgroup.WithContext(ctx)
		group.SetLimit(c.opt.Files)
		for _, d := range dirs[:n] {
			group.Go(func() error {
				err := c.retry(gctx, d.label, func() error { return d.dst.SetAttr(gctx, d.to, c.attr(d.entry)) })
				if err != nil {
					return c.fail(0, d.label, err)
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		dirs = dirs[n:]
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
