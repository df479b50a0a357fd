package transfer

import (
	"context"

	"transferd/internal/tree"
)

// ways is what two trees between which files are copied can do besides.
type ways struct {
	put   tree.Putter // nil: small files go as large ones do
	get   tree.Getter // nil: the source is this machine's disk, and files are opened
	limit int64       // bytes of a file that is small
	near  bool        // the source is on this machine

	link  tree.Linker  // nil: none, or names are copied one by one
	xattr tree.Xattrer // nil: none, or not wanted
	links *links
	host  string // of the source
}

// waysOf finds out what src and dst can do.
func (c *copier) waysOf(ctx context.Context, host string, src tree.Source, dst tree.Sink, links *links) *ways {
	w := &ways{near: transportOf(src) == "", links: links, host: host}
	if c.opt.DryRun {
		return w
	}
	if c.opt.Preserve.Links {
		w.link, _ = dst.(tree.Linker)
	}
	if c.opt.Preserve.Xattrs {
		w.xattr, _ = src.(tree.Xattrer)
	}
	w.small(ctx, src, dst)
	if w.put != nil && c.opt.Files == 0 {
		c.crew.widen(smallFiles)
	}
	return w
}

// small finds out how small files go. Whatever is in the way, they can go as
// large ones do, and those will tell.
func (w *ways) small(ctx context.Context, src tree.Source, dst tree.Sink) {
	p, ok := dst.(tree.Putter)
	if !ok {
		return
	}
	limit, err := p.PutLimit(ctx)
	if err != nil || limit <= 0 {
		return
	}
	if g, ok := src.(tree.Getter); ok {
		most, err := g.GetLimit(ctx)
		if err == nil && most > 0 {
			w.put, w.get, w.limit = p, g, min(limit, most)
			return
		}
	}
	if w.near {
		w.put, w.limit = p, min(limit, tree.MinChunkSize)
	}
}

// takes reports whether j goes in one piece.
func (w *ways) takes(j *job) bool {
	return w.put != nil && j.entry.Size <= w.limit && !j.linked &&
		(j.there == nil || j.there.Kind == tree.KindFile || j.there.Kind == tree.KindSymlink)
}
