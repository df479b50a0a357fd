package transfer

import (
	"context"

	"transferd/internal/tree"
)

// sized is a tree that lies about the size of files.
type sized struct {
	tree.Source
	size int64
}

func (s sized) Transport() string { return "sftp" }

func (s sized) Stat(ctx context.Context, p tree.Path) (tree.Entry, error) {
	e, err := s.Source.Stat(ctx, p)
	e.Size = s.size
	return e, err
}

func (s sized) Open(ctx context.Context, p tree.Path) (tree.Reader, error) {
	r, err := s.Source.Open(ctx, p)
	return sizedReader{r, s.size}, err
}

type sizedReader struct {
	tree.Reader
	size int64
}

func (r sizedReader) Stat(ctx context.Context) (tree.Entry, error) {
	e, err := r.Reader.Stat(ctx)
	e.Size = r.size
	return e, err
}
