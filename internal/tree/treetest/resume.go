package treetest

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"transferd/internal/tree"
)

// suspended leaves an upload of data with only the chunks of indexes.
func suspended(t *testing.T, s tree.Sink, u tree.Upload, data []byte, indexes ...int) {
	t.Helper()
	w := begin(t, s, u)
	for _, i := range indexes {
		write(t, w, []tree.Chunk{Chunks(data)[i]})
	}
	ok(t, "Suspend", w.Suspend(t.Context()))
}

func testResume(t *testing.T, s tree.Sink, l Limits) {
	data := Data(14, 5*chunk+100)
	u := Upload("f", data)
	chunks := Chunks(data)
	suspended(t, s, u, data, 0, 1, 5)
	if _, err := s.Lstat(t.Context(), "f"); err == nil {
		t.Error("a suspended upload has its final name")
	}
	w := begin(t, s, u)
	got := have(w)
	if !l.NoResume {
		want := map[int64]tree.Value{0: chunks[0].Value, 1: chunks[1].Value, 5: chunks[5].Value}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Have after Suspend (-want +got):\n%s", diff)
		}
		if !w.Unchanged() {
			t.Error("Unchanged = false for the same source")
		}
	}
	ok(t, "Recheck", w.Recheck(t.Context(), func(i int64) { t.Errorf("Recheck calls chunk %d bad", i) }))
	for _, c := range chunks {
		if _, kept := got[c.Index]; !kept {
			write(t, w, []tree.Chunk{c})
		}
	}
	commit(t, w, FinalOf(data))
	want(t, s, "f", data)
	wantNames(t, s, tree.Root, "f")
}

func testResumeNot(t *testing.T, s tree.Sink, _ Limits) {
	data := Data(15, 3*chunk)
	u := Upload("f", data)
	suspended(t, s, u, data, 0, 2)
	u.Resume = false
	w := begin(t, s, u)
	if got := have(w); len(got) != 0 {
		t.Errorf("Have without Resume yields %d chunks, want none", len(got))
	}
	write(t, w, Chunks(data))
	commit(t, w, FinalOf(data))
	want(t, s, "f", data)
	wantNames(t, s, tree.Root, "f")
}

// testResumeChangedSource: the source grew and one chunk of it changed.
func testResumeChangedSource(t *testing.T, s tree.Sink, _ Limits) {
	old := Data(16, 4*chunk+10)
	suspended(t, s, Upload("f", old), old, 0, 1, 2, 4)
	data := Data(16, 5*chunk)
	copy(data[chunk:], Data(17, 100))
	u := Upload("f", data)
	u.Source.Mtime++
	w := begin(t, s, u)
	if w.Unchanged() {
		t.Error("Unchanged = true for another source")
	}
	chunks := Chunks(data)
	got := have(w)
	if _, kept := got[4]; kept {
		t.Error("Have yields the short last chunk of a file that has grown")
	}
	for _, c := range chunks {
		if v, kept := got[c.Index]; !kept || v != c.Value {
			write(t, w, []tree.Chunk{c})
		}
	}
	ok(t, "Recheck", w.Recheck(t.Context(), func(i int64) { t.Errorf("Recheck calls chunk %d bad", i) }))
	commit(t, w, FinalOf(data))
	want(t, s, "f", data)
	wantNames(t, s, tree.Root, "f")
}

func testOrigins(t *testing.T, s tree.Sink, _ Limits) {
	a, b := Data(18, 2*chunk), Data(19, 2*chunk)
	ua, ub := Upload("f", a), Upload("f", b)
	ub.Origin = "other machine:/f"
	wa, wb := begin(t, s, ua), begin(t, s, ub)
	write(t, wa, Chunks(a))
	write(t, wb, Chunks(b))
	commit(t, wa, FinalOf(a))
	want(t, s, "f", a)
	commit(t, wb, FinalOf(b))
	want(t, s, "f", b)
	wantNames(t, s, tree.Root, "f")
}
