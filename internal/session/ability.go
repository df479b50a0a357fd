package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"transferd/internal/tree"
)

// What a tree may be able to do besides is passed on where the tree beneath
// can do it; elsewhere it is errors.ErrUnsupported, or a limit of 0.

func unsupported(op operation, p tree.Path) error {
	return fmt.Errorf("%s %s: %w", table[op].name, p, errors.ErrUnsupported)
}

// Put implements tree.Putter. Without the right to replace, it gives free names
// only, which the tree beneath decides in one step.
func (g guard) Put(ctx context.Context, s tree.Small) (tree.Receipt, error) {
	if err := g.allow(opUpload, s.Path); err != nil {
		return tree.Receipt{}, err
	}
	putter, ok := g.below.(tree.Putter)
	if !ok {
		return tree.Receipt{}, unsupported(opUpload, s.Path)
	}
	if err := g.login.room(ctx, s.Path, int64(len(s.Data))); err != nil {
		return tree.Receipt{}, err
	}
	denied := g.allow(opUploadOver, s.Path)
	if denied == nil {
		return putter.Put(ctx, s)
	}
	if s.InPlace { // it would write over whatever is there
		return tree.Receipt{}, denied
	}
	if s.NoReplace {
		return putter.Put(ctx, s)
	}
	s.NoReplace = true
	r, err := putter.Put(ctx, s)
	if errors.Is(err, fs.ErrExist) {
		return r, denied
	}
	return r, err
}

// PutLimit implements tree.Putter.
func (g guard) PutLimit(ctx context.Context) (int64, error) {
	if putter, ok := g.below.(tree.Putter); ok {
		return putter.PutLimit(ctx)
	}
	return 0, nil
}

// Get implements tree.Getter.
func (g guard) Get(ctx context.Context, p tree.Path, limit int64) (tree.Got, error) {
	if err := g.allow(opRead, p); err != nil {
		return tree.Got{}, err
	}
	getter, ok := g.below.(tree.Getter)
	if !ok {
		return tree.Got{}, unsupported(opRead, p)
	}
	return getter.Get(ctx, p, limit)
}

// GetLimit implements tree.Getter.
func (g guard) GetLimit(ctx context.Context) (int64, error) {
	if getter, ok := g.below.(tree.Getter); ok {
		return getter.GetLimit(ctx)
	}
	return 0, nil
}

// Xattrs implements tree.Xattrer.
func (g guard) Xattrs(ctx context.Context, p tree.Path) ([]tree.Xattr, error) {
	if err := g.allow(opXattrs, p); err != nil {
		return nil, err
	}
	x, ok := g.below.(tree.Xattrer)
	if !ok {
		return nil, unsupported(opXattrs, p)
	}
	return x.Xattrs(ctx, p)
}

// Sum implements tree.Summer.
func (g guard) Sum(ctx context.Context, p tree.Path) (tree.Digest, error) {
	if err := g.allow(opSum, p); err != nil {
		return tree.Digest{}, err
	}
	summer, ok := g.below.(tree.Summer)
	if !ok {
		return tree.Digest{}, unsupported(opSum, p)
	}
	return summer.Sum(ctx, p)
}

// StatFS implements tree.Spacer.
func (g guard) StatFS(ctx context.Context, p tree.Path) (tree.Space, error) {
	if err := g.allow(opSpace, p); err != nil {
		return tree.Space{}, err
	}
	spacer, ok := g.below.(tree.Spacer)
	if !ok {
		return tree.Space{}, unsupported(opSpace, p)
	}
	return spacer.StatFS(ctx, p)
}

// Link implements tree.Linker.
func (g guard) Link(ctx context.Context, from, to tree.Path) error {
	if err := g.allow(opLink, to); err != nil {
		return err
	}
	if err := g.allowName(to); err != nil {
		return err
	}
	linker, ok := g.below.(tree.Linker)
	if !ok {
		return unsupported(opLink, to)
	}
	return linker.Link(ctx, from, to)
}
