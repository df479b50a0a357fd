package transfer

import (
	"context"
	"errors"
	"sync/atomic"

	"transferd/internal/tree"
)

// said is what a person was told once and need not hear again.
type said struct{ xattrs, noXattrs, links, badChunk atomic.Bool }

// hint tells text unless it was told before.
func (c *copier) hint(before *atomic.Bool, text string) {
	if !before.Swap(true) {
		c.emit(Hint{text})
	}
}

// xattrsOf returns the extended attributes that the copy of p gets, nil for
// none. Where it would have none anyway, because it is new, nothing needs to be
// said; else the old ones have to go.
func (c *copier) xattrsOf(ctx context.Context, w *ways, p tree.Path, old bool) ([]tree.Xattr, error) {
	if !c.opt.Preserve.Xattrs || c.said.noXattrs.Load() {
		return nil, nil
	}
	list, err := []tree.Xattr(nil), errors.ErrUnsupported
	if w.xattr != nil {
		list, err = w.xattr.Xattrs(ctx, p)
	}
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		c.hint(&c.said.xattrs, "the source tells no extended attributes; files are copied without them")
		return nil, nil
	case err != nil:
		return nil, err
	case len(list) == 0 && !old:
		return nil, nil
	}
	return list, nil
}

// noXattrs notes that the destination takes no extended attributes.
func (c *copier) noXattrs() {
	c.said.noXattrs.Store(true)
	c.hint(&c.said.xattrs, "the destination keeps no extended attributes; files are copied without them")
}
