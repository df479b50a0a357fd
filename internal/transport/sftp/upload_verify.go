package sftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"transferd/internal/tree"
)

// A server of SFTP has no digests, so checking means reading back. The sample
// that stands for everything is one chunk of a hundred, at least sampleLeast,
// and sampleBytes at most.
const (
	sampleLeast = 8
	sampleBytes = 16 << 20
	sampleShare = 100
)

// checkers is how many chunks are read back and hashed at a time.
const checkers = 4

// Recheck implements tree.Writer. What is most likely wrong is the last chunk
// before a crash; one that is wrong makes all the others suspect.
func (w *upload) Recheck(ctx context.Context, bad func(int64)) error {
	if len(w.have) == 0 {
		return nil
	}
	all := slices.DeleteFunc(slices.Sorted(maps.Keys(w.have)), w.rewritten)
	if len(all) == 0 {
		return nil
	}
	first := all
	if w.u.Verify != tree.VerifyFull {
		first = w.sample(all)
	}
	// A chunk that is written again meanwhile has another value, rightly.
	found, err := w.compare(ctx, first, w.have, w.u.Size, w.rewritten, bad)
	if err == nil && len(found) > 0 && len(first) < len(all) {
		rest := slices.DeleteFunc(all, func(i int64) bool { return slices.Contains(first, i) })
		var more []int64
		more, err = w.compare(ctx, rest, w.have, w.u.Size, w.rewritten, bad)
		found = append(found, more...)
	}
	if len(found) > 0 {
		err = errors.Join(err, w.j.Forget(found))
	}
	return pathError("check", w.c.nameOf(w.part), err)
}

// sample picks the last of all, which is ascending, and some others.
func (w *upload) sample(all []int64) []int64 {
	n := max(sampleLeast, len(all)/sampleShare)
	n = min(n, int(sampleBytes/w.u.ChunkSize), len(all))
	picked := map[int64]struct{}{all[len(all)-1]: {}}
	for len(picked) < n {
		picked[all[rand.IntN(len(all))]] = struct{}{} //nolint:gosec // a sample, no secret
	}
	return slices.Sorted(maps.Keys(picked))
}

// verify reads everything back before the file gets its name.
func (w *upload) verify(ctx context.Context, f tree.Final) error {
	count := tree.ChunkCount(f.Size, w.u.ChunkSize)
	if int64(len(f.Values)) != count {
		return fmt.Errorf("%w: %d chunk values for %d chunks", tree.ErrIntegrity, len(f.Values), count)
	}
	all := make([]int64, count)
	want := make(map[int64]tree.Value, count)
	for i := range all {
		all[i] = int64(i)
		want[int64(i)] = f.Values[i]
	}
	found, err := w.compare(ctx, all, want, f.Size, func(int64) bool { return false }, func(int64) {})
	if err != nil || len(found) == 0 {
		return err
	}
	err = fmt.Errorf("%w: %d of %d chunks read back differ", tree.ErrIntegrity, len(found), count)
	if w.j != nil {
		// The batch that still waits to be recorded may hold them too.
		w.mu.Lock()
		for _, i := range found {
			delete(w.ready.values, i)
		}
		w.mu.Unlock()
		err = errors.Join(err, w.j.Forget(found))
	}
	return err
}

// rewritten reports whether this run has written chunk i again.
func (w *upload) rewritten(i int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, again := w.again[i]
	return again
}

// compare reads the chunks indexes of a file of size bytes and returns those
// that do not have their value in want, but for those to skip. The zero Value
// stands for a hole.
func (w *upload) compare(ctx context.Context, indexes []int64, want map[int64]tree.Value, size int64, skip func(int64) bool, bad func(int64)) ([]int64, error) {
	var mu sync.Mutex
	var found []int64
	next := 0
	take := func() (int64, bool) {
		mu.Lock()
		defer mu.Unlock()
		if next == len(indexes) {
			return 0, false
		}
		next++
		return indexes[next-1], true
	}
	g, ctx := errgroup.WithContext(ctx)
	for range min(checkers, len(indexes)) {
		g.Go(func() error {
			buf := make([]byte, min(w.u.ChunkSize, size))
			for {
				i, more := take()
				if !more {
					return nil
				}
				if skip(i) {
					continue
				}
				same, err := w.same(ctx, buf, i, want[i], size)
				if err != nil {
					return err
				}
				if !same && !skip(i) {
					mu.Lock()
					found = append(found, i)
					bad(i)
					mu.Unlock()
				}
			}
		})
	}
	err := g.Wait()
	return found, err
}

// same reports whether chunk i of the partial has the value want.
func (w *upload) same(ctx context.Context, buf []byte, i int64, want tree.Value, size int64) (bool, error) {
	x := tree.ChunkExtent(i, size, w.u.ChunkSize)
	data := buf[:x.Length]
	if len(data) > 0 {
		_, err := w.f.readAt(ctx, data, x.Offset)
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	if want == (tree.Value{}) {
		return allZero(data), nil
	}
	return tree.ChunkValue(data, i, w.u.ChunkSize, size <= w.u.ChunkSize) == want, nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
