package transfer

import (
	"context"
	"errors"

	"transferd/internal/tree"
)

// able is a faulty tree that can what our own protocol can.
type able struct{ faulty }

type ableCarrier struct{ able }

func (ableCarrier) Transport() string { return "tcp" }

const ableLimit = 64 << 10

func (t able) PutLimit(context.Context) (int64, error) { return ableLimit, nil }
func (t able) GetLimit(context.Context) (int64, error) { return ableLimit, nil }

func (t able) Put(ctx context.Context, s tree.Small) (r tree.Receipt, err error) {
	p, ok := t.Sink.(tree.Putter)
	if !ok {
		return r, errors.ErrUnsupported
	}
	err = t.do(ctx, "put", s.Path, func() error { r, err = p.Put(ctx, s); return err })
	if err == nil {
		t.f.mu.Lock()
		defer t.f.mu.Unlock()
		t.f.written += int64(len(s.Data))
	}
	return r, err
}

func (t able) Get(ctx context.Context, p tree.Path, limit int64) (got tree.Got, err error) {
	g, ok := t.Sink.(tree.Getter)
	if !ok {
		return got, errors.ErrUnsupported
	}
	err = t.do(ctx, "get", p, func() error { got, err = g.Get(ctx, p, min(limit, ableLimit)); return err })
	t.f.mu.Lock()
	defer t.f.mu.Unlock()
	t.f.read += int64(len(got.Data))
	return got, err
}

func (t able) Link(ctx context.Context, from, to tree.Path) error {
	l, ok := t.Sink.(tree.Linker)
	if !ok {
		return errors.ErrUnsupported
	}
	return t.do(ctx, "link", to, func() error { return l.Link(ctx, from, to) })
}

func (t able) Xattrs(ctx context.Context, p tree.Path) (list []tree.Xattr, err error) {
	x, ok := t.Sink.(tree.Xattrer)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	err = t.do(ctx, "xattrs", p, func() error { list, err = x.Xattrs(ctx, p); return err })
	return list, err
}

func (t able) Open(ctx context.Context, p tree.Path) (tree.Reader, error) {
	r, err := t.faulty.Open(ctx, p)
	if err != nil {
		return nil, err
	}
	return &ableReader{r.(*faultyReader)}, nil //nolint:forcetypeassert // it opens nothing else
}

type ableReader struct{ *faultyReader }

func (r *ableReader) ReadChunk(ctx context.Context, p []byte, index, size, chunkSize int64) (v tree.Value, _ error) {
	err := r.t.f.do(ctx, "read", r.path, func() error {
		n, err := r.Reader.ReadAt(p, index*chunkSize)
		if n < len(p) {
			return errors.Join(tree.ErrSourceChanged, err)
		}
		v = tree.ChunkValue(p, index, chunkSize, tree.ChunkCount(size, chunkSize) == 1)
		return nil
	}, nil)
	if err != nil {
		return v, err
	}
	r.t.f.mu.Lock()
	defer r.t.f.mu.Unlock()
	r.t.f.read += int64(len(p))
	if r.t.f.damage != nil {
		r.t.f.damage(p, index)
	}
	return v, nil
}

func (r *ableReader) HashChunks(ctx context.Context, first, count, size, chunkSize int64) (values []tree.Value, _ error) {
	err := r.t.f.do(ctx, "hashchunks", r.path, func() error {
		for i := first; i < first+count; i++ {
			x := tree.ChunkExtent(i, size, chunkSize)
			data := make([]byte, x.Length)
			if n, err := r.Reader.ReadAt(data, x.Offset); n < len(data) {
				return errors.Join(tree.ErrSourceChanged, err)
			}
			values = append(values, tree.ChunkValue(data, i, chunkSize, tree.ChunkCount(size, chunkSize) == 1))
		}
		return nil
	}, nil)
	return values, err
}
