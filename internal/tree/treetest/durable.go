package treetest

import (
	"slices"
	"sync"
	"testing"

	"transferd/internal/tree"
)

// testDurable: what was announced is there in the next run, no chunk is
// announced that was not written, and never two at once. A tree that cannot
// tell announces nothing.
func testDurable(t *testing.T, s tree.Sink, l Limits) {
	data := Data(21, 6*chunk)
	chunks := Chunks(data)
	u := Upload("f", data)
	var mu sync.Mutex // held by a call: another one at the same time is wrong
	told := map[int64]int{}
	u.Durable = func(list []int64) {
		if !mu.TryLock() {
			t.Error("Durable is called twice at once")
			return
		}
		defer mu.Unlock()
		for _, i := range list {
			told[i]++
		}
		clear(list) // it is ours
	}
	w := begin(t, s, u)
	write(t, w, chunks[:4])
	ok(t, "Suspend", w.Suspend(t.Context()))
	mu.Lock()
	first := told
	told = map[int64]int{}
	mu.Unlock()
	for i, n := range first {
		if i >= 4 || n != 1 {
			t.Errorf("chunk %d was announced %d times", i, n)
		}
	}
	if l.NoResume {
		return
	}
	w = begin(t, s, u)
	kept := have(w)
	for i := range first {
		if kept[i] != chunks[i].Value {
			t.Errorf("chunk %d was announced as durable and is not there", i)
		}
	}
	rest := slices.DeleteFunc(chunks, func(c tree.Chunk) bool { return kept[c.Index] == c.Value })
	write(t, w, rest)
	write(t, w, rest[:min(1, len(rest))]) // the same once more
	commit(t, w, FinalOf(data))
	want(t, s, "f", data)
	for i := range told {
		if !slices.ContainsFunc(rest, func(c tree.Chunk) bool { return c.Index == i }) {
			t.Errorf("chunk %d of an earlier run was announced", i)
		}
	}
}

// testDurableOff: nothing is announced that is not durable.
func testDurableOff(t *testing.T, s tree.Sink, _ Limits) {
	data := Data(22, 3*chunk)
	u := Upload("f", data)
	u.Fsync = tree.FsyncOff
	u.Durable = func(list []int64) {
		if len(list) > 0 {
			t.Errorf("chunks %v were announced without an fsync", list)
		}
	}
	send(t, s, u, data)
	want(t, s, "f", data)
}
