package transfer

import (
	"context"
	"errors"
	"iter"
	"sync/atomic"

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

// brokenList loses the connection in the middle of each listing of a
// directory, a bit further each time.
type brokenList struct {
	*slow
	lost int
}

func (b *brokenList) List(ctx context.Context, p tree.Path) iter.Seq2[tree.Entry, error] {
	return func(yield func(tree.Entry, error) bool) {
		n := 0
		for e, err := range b.slow.List(ctx, p) {
			if n++; p != tree.Root && n > (b.lost+1)*firstEntries/2+77 && b.lost < 5 {
				b.lost++
				yield(tree.Entry{}, tree.ErrLost)
				return
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// attributed is two trees one of which has, and one of which takes or refuses,
// extended attributes.
type attributed struct {
	b           *bench
	list        []tree.Xattr
	read, write error
	got         atomic.Int32
}

func (a *attributed) source() tree.Sink { return attrTree{a.b.source.(tree.SubTree), a} } //nolint:forcetypeassert // a test's
func (a *attributed) sink() tree.Sink   { return attrTree{a.b.sink.(tree.SubTree), a} }   //nolint:forcetypeassert // a test's

func (a *attributed) take(attr *tree.Attr) error {
	if attr.Xattrs == nil {
		return nil
	}
	if a.write == nil {
		a.got.Add(1)
	}
	attr.Xattrs = nil
	return a.write
}

type attrTree struct {
	tree.SubTree
	a *attributed
}

func (t attrTree) Xattrs(context.Context, tree.Path) ([]tree.Xattr, error) { return t.a.list, t.a.read }
func (t attrTree) PutLimit(context.Context) (int64, error)                 { return ableLimit, nil }

func (t attrTree) Sub(ctx context.Context, p tree.Path) (tree.SubTree, error) {
	sub, err := t.SubTree.Sub(ctx, p)
	return attrTree{sub, t.a}, err
}

func (t attrTree) Put(ctx context.Context, s tree.Small) (tree.Receipt, error) {
	if err := t.a.take(&s.Attr); err != nil {
		return tree.Receipt{}, err
	}
	return t.SubTree.(tree.Putter).Put(ctx, s) //nolint:forcetypeassert // it is able
}

func (t attrTree) SetAttr(ctx context.Context, p tree.Path, attr tree.Attr) error {
	if err := t.a.take(&attr); err != nil {
		return err
	}
	return t.SubTree.SetAttr(ctx, p, attr)
}

func (t attrTree) Begin(ctx context.Context, u tree.Upload) (tree.Writer, error) {
	w, err := t.SubTree.Begin(ctx, u)
	return attrWriter{w, t.a}, err
}

type attrWriter struct {
	tree.Writer
	a *attributed
}

func (w attrWriter) Commit(ctx context.Context, f tree.Final) (tree.Receipt, error) {
	if err := w.a.take(&f.Attr); err != nil {
		return tree.Receipt{}, errors.Join(err, w.Suspend(ctx))
	}
	return w.Writer.Commit(ctx, f)
}
