package store

import (
	"context"
	"errors"
	"fmt"

	"transferd/internal/tree"
)

// maxSmall is the most bytes of a file that Put takes and Get gives: beyond,
// what a file costs is in its bytes and no longer in its name.
const maxSmall = 256 << 10

// PutLimit implements tree.Putter.
func (s *Store) PutLimit(ctx context.Context) (int64, error) { return maxSmall, ctx.Err() }

// Put gives a small file its final name. Those that come at the same time share
// what makes them durable.
func (s *Store) Put(ctx context.Context, f tree.Small) (tree.Receipt, error) {
	if err := ctx.Err(); err != nil {
		return tree.Receipt{}, err
	}
	if len(f.Data) > maxSmall {
		return tree.Receipt{}, s.fail("write", f.Path, fmt.Errorf("%w: %d bytes at once", errors.ErrUnsupported, len(f.Data)))
	}
	if got := tree.Digest(tree.ChunkValue(f.Data, 0, tree.MinChunkSize, true)); got != f.Digest {
		return tree.Receipt{}, s.fail("write", f.Path, fmt.Errorf("%w: the bytes make %v, not %v", tree.ErrIntegrity, got, f.Digest))
	}
	if f.InPlace || f.Verify == tree.VerifyFull {
		return s.putAlone(ctx, f)
	}
	r, err := s.putFast(ctx, &f)
	if errors.Is(err, errAlone) {
		return s.putAlone(ctx, f)
	}
	return r, s.fail("write", f.Path, err)
}

// errAlone: this file is a case for putAlone.
var errAlone = errors.New("not with others")

// putAlone is Put by way of Begin: for what is written in place, for devices
// and FIFOs, where another run of the same upload has left something or is at
// it, and where the system has no files without a name.
func (s *Store) putAlone(ctx context.Context, f tree.Small) (tree.Receipt, error) {
	w, err := s.Begin(ctx, tree.Upload{
		Path: f.Path, Size: int64(len(f.Data)), Origin: f.Origin, ChunkSize: tree.MinChunkSize,
		InPlace: f.InPlace, NoReplace: f.NoReplace, Verify: f.Verify, Fsync: f.Fsync,
	})
	if err != nil {
		return tree.Receipt{}, err
	}
	value := tree.Value(f.Digest)
	if err := w.WriteChunk(ctx, tree.Chunk{Data: f.Data, Value: value}); err != nil {
		return tree.Receipt{}, errors.Join(err, w.Abort(context.WithoutCancel(ctx)))
	}
	return w.Commit(ctx, tree.Final{
		Size: int64(len(f.Data)), Digest: f.Digest, Values: []tree.Value{value}, HasDigest: true, Attr: f.Attr,
	})
}
