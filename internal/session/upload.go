package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"transferd/internal/tree"
)

// Begin implements tree.Sink where the tree beneath does; elsewhere it is
// errors.ErrUnsupported. Without the right to replace, the upload cannot be
// committed onto a name that exists by then.
func (g guard) Begin(ctx context.Context, u tree.Upload) (tree.Writer, error) {
	if err := g.allow(opUpload, u.Path); err != nil {
		return nil, err
	}
	sink, ok := g.below.(tree.Sink)
	if !ok {
		return nil, fmt.Errorf("upload %s: %w", u.Path, errors.ErrUnsupported)
	}
	if err := g.login.room(ctx, u.Path, u.Size); err != nil {
		return nil, err
	}
	if denied := g.allow(opUploadOver, u.Path); denied != nil {
		if u.InPlace { // it would write over whatever is there
			return nil, denied
		}
		if !u.NoReplace {
			// What is sure to be denied at the end is better denied before it is sent.
			if e, err := g.below.Lstat(ctx, u.Path); err == nil && (e.Kind == tree.KindFile || e.Kind == tree.KindSymlink) {
				return nil, denied
			}
			u.NoReplace = true
			w, err := sink.Begin(ctx, u)
			if err != nil {
				return nil, err
			}
			return onlyNew{Writer: w, denied: denied}, nil
		}
	}
	return sink.Begin(ctx, u)
}

// onlyNew is an upload that may not replace anything.
type onlyNew struct {
	tree.Writer
	denied error
}

// Commit implements tree.Writer.
func (w onlyNew) Commit(ctx context.Context, f tree.Final) (tree.Receipt, error) {
	r, err := w.Writer.Commit(ctx, f)
	if errors.Is(err, fs.ErrExist) {
		return r, w.denied
	}
	return r, err
}

// Sub implements tree.Suber where the tree beneath does; elsewhere it is
// errors.ErrUnsupported.
func (g guard) Sub(ctx context.Context, p tree.Path) (tree.SubTree, error) {
	if err := g.allow(opSub, p); err != nil {
		return nil, err
	}
	suber, ok := g.below.(tree.Suber)
	if !ok {
		return nil, fmt.Errorf("open directory %s: %w", p, errors.ErrUnsupported)
	}
	t, err := suber.Sub(ctx, p)
	if err != nil {
		return nil, err
	}
	return subSession{guard{t, g.login}, t}, nil
}

// subSession is a part of a session's tree, with the same rights.
type subSession struct {
	guard
	io.Closer
}

var (
	_ tree.SubTree = subSession{}
	_ tree.Putter  = subSession{}
	_ tree.Getter  = subSession{}
	_ tree.Xattrer = subSession{}
	_ tree.Summer  = subSession{}
	_ tree.Linker  = subSession{}
	_ tree.Spacer  = subSession{}
)
