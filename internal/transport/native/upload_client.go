package native

import (
	"context"
	"errors"

	"transferd/internal/tree"
)

// Begin implements tree.Sink.
func (b *branch) Begin(ctx context.Context, u tree.Upload) (tree.Writer, error) {
	return nil, errors.ErrUnsupported
}

// Put implements tree.Putter.
func (b *branch) Put(ctx context.Context, s tree.Small) (tree.Receipt, error) {
	return tree.Receipt{}, errors.ErrUnsupported
}

// PutLimit implements tree.Putter.
func (b *branch) PutLimit(ctx context.Context) (int64, error) { return 0, errors.ErrUnsupported }
