package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"transferd/internal/tree"
)

// hashBatch is how many chunks are asked for at once: few enough that the first
// that differ are on their way while the server hashes the others.
const hashBatch = 256

// read fills data with chunk i of the source and returns its value. Where the
// source is a server that hashes what it sends, both must have found the same;
// else it is read once more.
func (f *file) read(ctx context.Context, r tree.Reader, data []byte, i int64) (tree.Value, error) {
	whole := len(f.values) == 1
	value := func() tree.Value { return tree.ChunkValue(data, i, f.chunk, whole) }
	cr, ok := r.(tree.ChunkReader)
	for again := false; ok && !f.ways.near && !f.plain.Load(); again = true {
		want, err := cr.ReadChunk(ctx, data, i, f.size, f.chunk)
		if errors.Is(err, errors.ErrUnsupported) {
			f.plain.Store(true)
			break
		}
		if err != nil {
			return tree.Value{}, err
		}
		got := value()
		if got == want {
			return got, nil
		}
		if again {
			x := f.extent(i)
			return tree.Value{}, fmt.Errorf("%s: %w: what came of bytes %d to %d is not what was sent", f.label, tree.ErrIntegrity, x.Offset, x.End())
		}
		f.c.hint(&f.c.said.badChunk, f.label+": a piece arrived damaged and is read again; this machine or the other one should be looked at")
	}
	if n, err := r.ReadAt(data, f.extent(i).Offset); n < len(data) {
		if err == nil || errors.Is(err, io.EOF) {
			err = fmt.Errorf("%s: %w", f.label, errShorter)
		}
		return tree.Value{}, err
	}
	return value(), nil
}

// hasher returns what can hash chunks of the source where it lies; nil where
// that is this machine, or nothing can.
func (f *file) hasher(r tree.Reader) tree.ChunkHasher {
	if f.ways.near {
		return nil
	}
	h, _ := r.(tree.ChunkHasher)
	return h
}

// compare asks h for the values of the chunks in have, keeps those that are
// still the same, and returns the others.
func (f *file) compare(ctx context.Context, h tree.ChunkHasher, have map[int64]tree.Value) ([]int64, error) {
	asked := slices.Sorted(maps.Keys(have))
	var differ []int64
	for len(asked) > 0 {
		n := 1
		for n < min(len(asked), hashBatch) && asked[n] == asked[n-1]+1 {
			n++
		}
		values, err := h.HashChunks(ctx, asked[0], int64(n), f.size, f.chunk)
		if errors.Is(err, errors.ErrUnsupported) {
			return append(differ, asked...), nil // they are read
		}
		if err != nil {
			return nil, err
		}
		if len(values) != n {
			return nil, fmt.Errorf("%s: %w", f.label, errShorter)
		}
		for k, v := range values {
			if i := asked[k]; v == have[i] {
				f.keep(i, v)
			} else {
				differ = append(differ, i)
			}
		}
		asked = asked[n:]
	}
	return differ, nil
}

// senders is how many chunks of the file are in flight at most.
func (f *file) senders() int64 {
	if f.isStream() || f.c.pace != nil {
		// In order: chunks that wait for their turn must not hold the memory
		// that the one before them waits for, and what is slowed down needs no
		// company.
		return 1
	}
	return fileChunks
}
