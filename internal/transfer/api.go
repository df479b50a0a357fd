package transfer

import (
	"context"
	"io"

	"transferd/internal/tree"
)

// Copy copies srcs to dst, whose tree must be a tree.Sink.
func Copy(ctx context.Context, dst Place, srcs []Place, o Options) (Summary, error) {
	panic("unwritten")
}

// ReadTo writes the file src to w, in order.
func ReadTo(ctx context.Context, w io.Writer, src Place, o Options) (int64, error) {
	panic("unwritten")
}

// WriteFrom makes the file dst of everything that r yields.
func WriteFrom(ctx context.Context, dst Place, r io.Reader, o Options) (Summary, error) {
	panic("unwritten")
}

// Sum returns the BLAKE3 root of the file src: what b3sum prints.
func Sum(ctx context.Context, src Place) (tree.Digest, error) {
	panic("unwritten")
}
