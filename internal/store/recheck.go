package store

import (
	"context"
	"fmt"
	"sync"

	"transferd/internal/tree"
)

// Recheck reads and hashes again every chunk that an earlier run left. A bad
// one is dropped from the journal before bad, which is never called twice at
// once, hears of it.
func (w *writer) Recheck(ctx context.Context, bad func(index int64)) error {
	if err := w.gate.enter(); err != nil {
		return w.fail("check", err)
	}
	defer w.gate.leave()
	var one sync.Mutex
	return w.fail("check", w.recheck(ctx, w.gate.stop, func(i int64) {
		one.Lock()
		defer one.Unlock()
		bad(i)
	}))
}

// recheck ends early when stop is closed.
func (w *writer) recheck(ctx context.Context, stop <-chan struct{}, bad func(index int64)) error {
	indexes := w.unchecked()
	if len(indexes) == 0 {
		return nil
	}
	return hashChunks(ctx, w.part, w.u.Size, w.u.ChunkSize, indexes, func(i int64, v tree.Value, err error) error {
		select {
		case <-stop:
			return w.gate.reason()
		default:
		}
		// A chunk that cannot be read is as bad as one that reads wrong:
		// writing it again may find it a better place.
		good, err := w.judge(i, v, err == nil)
		if err == nil && !good {
			bad(i)
		}
		return err
	})
}

// unchecked lists the kept chunks that nobody has read or replaced yet.
func (w *writer) unchecked() []int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []int64
	for i, st := range w.chunks {
		if st.kept && !st.checked && !st.writing {
			list = append(list, i)
		}
	}
	return sorted(list)
}

// judge takes the result of reading chunk i. One that was replaced while it
// was read counts as good: its new bytes were never in question.
func (w *writer) judge(i int64, v tree.Value, readable bool) (good bool, err error) {
	w.mu.Lock()
	st := w.chunks[i]
	switch {
	case !st.kept || st.writing:
		w.mu.Unlock()
		return true, nil
	case readable && st.value == v:
		st.checked = true
		w.chunks[i] = st
		w.mu.Unlock()
		return true, nil
	}
	w.chunks[i] = chunkState{writing: true}
	w.mu.Unlock()
	return false, w.journal.Forget([]int64{i})
}

// readBack reads the whole file again, from the disk where the system lets us,
// and compares it with what was meant. Bad chunks are dropped from the journal.
func (w *writer) readBack(ctx context.Context, size int64) error {
	forget(w.part)
	w.mu.Lock()
	var indexes []int64
	for i := range tree.ChunkCount(size, w.u.ChunkSize) {
		indexes = append(indexes, i)
	}
	w.mu.Unlock()
	var mu sync.Mutex
	var wrong []int64
	err := hashChunks(ctx, w.part, size, w.u.ChunkSize, indexes, func(i int64, v tree.Value, err error) error {
		w.mu.Lock()
		st, known := w.chunks[i]
		w.mu.Unlock()
		want := st.value
		if !known { // a hole
			want = zeroValue(i, size, w.u.ChunkSize)
		}
		if err == nil && v == want {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		wrong = append(wrong, i)
		return nil
	})
	if err != nil || len(wrong) == 0 {
		return err
	}
	if w.journal != nil {
		if err := w.journal.Forget(sorted(wrong)); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: %d chunks read back wrong, the first at byte %d", tree.ErrIntegrity, len(wrong), sorted(wrong)[0]*w.u.ChunkSize)
}

func zeroValue(i, size, chunk int64) tree.Value {
	x := tree.ChunkExtent(i, size, chunk)
	return tree.ChunkValue(make([]byte, x.Length), i, chunk, tree.ChunkCount(size, chunk) == 1)
}
