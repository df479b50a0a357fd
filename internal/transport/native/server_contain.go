package native

import (
	"context"
	"iter"

	"transferd/internal/tree"
	"transferd/protocol"
)

// A containedWriter keeps panics of the Writer beneath within its upload, which
// they fail.
type containedWriter struct {
	one   *serverSession
	below tree.Writer
}

// within is serverSession.within.
func (w containedWriter) within(f func() error) error {
	return w.one.within(protocol.TypeBegin.String(), f)
}

// Have implements tree.Writer.
func (w containedWriter) Have() iter.Seq2[int64, tree.Value] { return w.below.Have() }

// Unchanged implements tree.Writer.
func (w containedWriter) Unchanged() bool { return w.below.Unchanged() }

// Recheck implements tree.Writer.
func (w containedWriter) Recheck(ctx context.Context, bad func(index int64)) error {
	return w.within(func() error { return w.below.Recheck(ctx, bad) })
}

// WriteChunk implements tree.Writer.
func (w containedWriter) WriteChunk(ctx context.Context, c tree.Chunk) error {
	return w.within(func() error { return w.below.WriteChunk(ctx, c) })
}

// Commit implements tree.Writer.
func (w containedWriter) Commit(ctx context.Context, f tree.Final) (r tree.Receipt, err error) {
	err = w.within(func() error {
		var err error
		r, err = w.below.Commit(ctx, f)
		return err
	})
	return r, err
}

// Suspend implements tree.Writer.
func (w containedWriter) Suspend(ctx context.Context) error {
	return w.within(func() error { return w.below.Suspend(ctx) })
}

// Abort implements tree.Writer.
func (w containedWriter) Abort(ctx context.Context) error {
	return w.within(func() error { return w.below.Abort(ctx) })
}
