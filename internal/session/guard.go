package session

import (
	"context"
	"io/fs"
	"iter"

	"transferd/internal/tree"
)

// A guard puts the rights of a login around what every tree can.
type guard struct {
	below interface {
		tree.Source
		tree.Names
	}
	login Login
}

// allow looks op up in the table.
func (g guard) allow(op operation, p tree.Path) error {
	a := table[op]
	if g.login.Permissions.Has(a.needs) {
		return nil
	}
	if g.login.Permissions.Has(a.partials) && tree.IsPartialName(p.Base()) {
		return nil
	}
	return deny(op, p)
}

// allowName says whether p may become another name for what exists: not if it
// is a partial's, which may be lost, without the right to lose things.
func (g guard) allowName(p tree.Path) error {
	if !tree.IsPartialName(p.Base()) {
		return nil
	}
	return g.allow(opDisguise, p)
}

func deny(op operation, p tree.Path) error {
	return &fs.PathError{Op: table[op].name, Path: p.String(), Err: fs.ErrPermission}
}

// Stat implements tree.Source.
func (g guard) Stat(ctx context.Context, p tree.Path) (tree.Entry, error) {
	if err := g.allow(opStat, p); err != nil {
		return tree.Entry{}, err
	}
	return g.below.Stat(ctx, p)
}

// Lstat implements tree.Source.
func (g guard) Lstat(ctx context.Context, p tree.Path) (tree.Entry, error) {
	if err := g.allow(opStat, p); err != nil {
		return tree.Entry{}, err
	}
	return g.below.Lstat(ctx, p)
}

// List implements tree.Source.
func (g guard) List(ctx context.Context, p tree.Path) iter.Seq2[tree.Entry, error] {
	if err := g.allow(opList, p); err != nil {
		return func(yield func(tree.Entry, error) bool) { yield(tree.Entry{}, err) }
	}
	return g.below.List(ctx, p)
}

// Open implements tree.Source.
func (g guard) Open(ctx context.Context, p tree.Path) (tree.Reader, error) {
	if err := g.allow(opRead, p); err != nil {
		return nil, err
	}
	return g.below.Open(ctx, p)
}
