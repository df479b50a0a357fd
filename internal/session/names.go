package session

import (
	"context"
	"errors"
	"io/fs"

	"transferd/internal/tree"
)

// Mkdir implements tree.Names.
func (g guard) Mkdir(ctx context.Context, p tree.Path, perm tree.Perm) error {
	if err := g.allow(opMkdir, p); err != nil {
		return err
	}
	return g.below.Mkdir(ctx, p, perm)
}

// Symlink implements tree.Names.
func (g guard) Symlink(ctx context.Context, target string, p tree.Path) error {
	if err := g.allow(opSymlink, p); err != nil {
		return err
	}
	if err := g.allowName(p); err != nil {
		return err
	}
	return g.below.Symlink(ctx, target, p)
}

// Rename implements tree.Names. Without the right to replace, RenameReplace
// works onto free names only, which the tree beneath decides in one step.
func (g guard) Rename(ctx context.Context, from, to tree.Path, how tree.RenameMode) error {
	if err := g.allow(opRename, from); err != nil {
		return err
	}
	if !tree.IsPartialName(from.Base()) {
		if err := g.allowName(to); err != nil {
			return err
		}
	}
	if how == tree.RenameNoReplace {
		return g.below.Rename(ctx, from, to, how)
	}
	denied := g.allow(opReplace, to)
	if denied == nil {
		return g.below.Rename(ctx, from, to, how)
	}
	err := g.below.Rename(ctx, from, to, tree.RenameNoReplace)
	if errors.Is(err, fs.ErrExist) {
		return denied
	}
	return err
}

// Remove implements tree.Names.
func (g guard) Remove(ctx context.Context, p tree.Path) error {
	if err := g.allow(opRemove, p); err != nil {
		return err
	}
	return g.below.Remove(ctx, p)
}

// SetAttr implements tree.Names.
func (g guard) SetAttr(ctx context.Context, p tree.Path, attr tree.Attr) error {
	if err := g.allow(opSetAttr, p); err != nil {
		return err
	}
	if attr.Size != nil {
		if denied := g.allow(opTruncate, p); denied != nil {
			e, err := g.below.Lstat(ctx, p)
			if err != nil {
				return err
			}
			if *attr.Size < e.Size {
				return denied
			}
		}
	}
	return g.below.SetAttr(ctx, p, attr)
}
