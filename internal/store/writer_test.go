//go:build linux

package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"transferd/internal/tree"
	"transferd/internal/tree/treetest"
)

const mib = 1 << 20

// started returns a Writer of an upload of data.
func started(t *testing.T, s tree.Sink, data []byte) tree.Writer {
	t.Helper()
	w, err := s.Begin(t.Context(), treetest.Upload("f", data))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func writeChunks(t *testing.T, w tree.Writer, chunks ...tree.Chunk) {
	t.Helper()
	for _, c := range chunks {
		if err := w.WriteChunk(t.Context(), c); err != nil {
			t.Fatalf("WriteChunk(%d) = %v", c.Index, err)
		}
	}
}

func indexes(w tree.Writer) []int64 {
	list := []int64{}
	for i := range w.Have() {
		list = append(list, i)
	}
	return list
}

func TestTakeOver(t *testing.T) {
	s, _ := openTemp(t, Options{})
	if err := s.Mkdir(t.Context(), "d", 0o755); err != nil {
		t.Fatal(err)
	}
	sub, err := s.Sub(t.Context(), "d")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Close() }()
	data := treetest.Data(1, 3*mib)
	chunks := treetest.Chunks(data)
	stale := started(t, sub, data)
	writeChunks(t, stale, chunks[0], chunks[2])

	// The same upload, its path spelled differently.
	u := treetest.Upload("d/f", data)
	w, err := s.Begin(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	if got := indexes(w); len(got) != 2 {
		t.Errorf("Have after taking over = %v, want chunks 0 and 2", got)
	}
	_, commitErr := stale.Commit(t.Context(), treetest.FinalOf(data))
	for what, err := range map[string]error{
		"WriteChunk": stale.WriteChunk(t.Context(), chunks[1]),
		"Recheck":    stale.Recheck(t.Context(), func(int64) {}),
		"Commit":     commitErr,
		"Suspend":    stale.Suspend(t.Context()),
		"Abort":      stale.Abort(t.Context()),
	} {
		if !errors.Is(err, tree.ErrTakenOver) {
			t.Errorf("%s of a stale Writer = %v, want ErrTakenOver", what, err)
		}
	}
	writeChunks(t, w, chunks[1])
	if _, err := w.Commit(t.Context(), treetest.FinalOf(data)); err != nil {
		t.Fatal(err)
	}
	if got := treetest.Get(t, s, "d/f"); string(got) != string(data) {
		t.Error("the file is wrong")
	}
}

// TestTakeOverByMany: of several runs at once the last has the upload, the
// others hear of it, and nobody hangs.
func TestTakeOverByMany(t *testing.T) {
	s, _ := openTemp(t, Options{})
	data := treetest.Data(1, 3*mib)
	var won atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			w, err := s.Begin(t.Context(), treetest.Upload("f", data))
			if err != nil {
				t.Errorf("Begin = %v", err)
				return
			}
			for _, c := range treetest.Chunks(data) {
				err = w.WriteChunk(t.Context(), c)
			}
			if err == nil {
				_, err = w.Commit(t.Context(), treetest.FinalOf(data))
			}
			switch {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, tree.ErrTakenOver):
				t.Errorf("a stale Writer's error = %v, want ErrTakenOver", err)
			}
		})
	}
	wg.Wait()
	if won.Load() == 0 {
		t.Error("nobody got through")
	}
	if got := treetest.Get(t, s, "f"); string(got) != string(data) {
		t.Error("the file is wrong")
	}
}

// TestBackPressure: no more than maxPending is taken before it is durable.
func TestBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := openTemp(t, Options{})
		s.hub.tuning.maxPending, s.hub.tuning.batchBytes = 3*mib, 2*mib
		disk := make(chan struct{})
		s.hub.sys.datasync = func(*os.File) error {
			<-disk
			return nil
		}
		data := treetest.Data(1, 6*mib)
		w := started(t, s, data)
		var taken atomic.Int64
		var wg sync.WaitGroup
		wg.Go(func() {
			for _, c := range treetest.Chunks(data) {
				if err := w.WriteChunk(t.Context(), c); err != nil {
					t.Errorf("WriteChunk = %v", err)
				}
				taken.Add(1)
			}
		})
		synctest.Wait()
		if n := taken.Load(); n != 3 {
			t.Errorf("%d chunks taken while the disk stands still, want 3", n)
		}
		close(disk)
		wg.Wait()
		if _, err := w.Commit(t.Context(), treetest.FinalOf(data)); err != nil {
			t.Fatal(err)
		}
	})
}

// TestTakeOverWakes: a stale Writer that waits for the disk gives up.
func TestTakeOverWakes(t *testing.T) {
	s, _ := openTemp(t, Options{})
	s.hub.tuning.maxPending, s.hub.tuning.batchEvery, s.hub.tuning.batchBytes = mib, time.Hour, 1<<40
	data := treetest.Data(1, 3*mib)
	chunks := treetest.Chunks(data)
	s.hub.sys.datasync = func(*os.File) error { return nil }
	stale := started(t, s, data).(*writer)
	writeChunks(t, stale, chunks[0])
	stale.mu.Lock()
	stale.unsynced += 1 << 40 // as if a lot were under way
	stale.mu.Unlock()
	result := make(chan error, 1)
	go func() { result <- stale.WriteChunk(t.Context(), chunks[1]) }()
	w := started(t, s, data)
	if err := <-result; !errors.Is(err, tree.ErrTakenOver) {
		t.Errorf("a waiting WriteChunk = %v, want ErrTakenOver", err)
	}
	if err := w.Abort(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestBatchTime: what arrived is on record a second later.
func TestBatchTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, path := openTemp(t, Options{})
		data := treetest.Data(1, 3*mib)
		w := started(t, s, data)
		writeChunks(t, w, treetest.Chunks(data)[1])
		<-time.After(1100 * time.Millisecond)
		synctest.Wait()
		f, err := os.Open(filepath.Join(path, tree.PartialName("test machine:/source/f", "f")+".journal"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		st, err := readJournal(f)
		if err != nil {
			t.Fatal(err)
		}
		if len(st.have) != 1 {
			t.Errorf("journal has %d chunks a second after the first, want 1", len(st.have))
		}
		if err := w.Abort(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestLockWait: another holder is waited for 15 seconds, not more.
func TestLockWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, path := openTemp(t, Options{})
		b, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer closeStore(t, b)
		data := treetest.Data(1, 3*mib)
		w := started(t, a, data)
		start := time.Now()
		_, err = b.Begin(t.Context(), treetest.Upload("f", data))
		if took := time.Since(start); !errors.Is(err, tree.ErrBusy) || took < 15*time.Second || took > 16*time.Second {
			t.Errorf("Begin of what another holds = %v after %v, want ErrBusy after 15s", err, took)
		}
		if err := w.Abort(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestInPlaceOfOthers: what somebody makes at the name of an upload in place
// while that begins, or puts there later, is not taken for the upload's own.
func TestInPlaceOfOthers(t *testing.T) {
	s, path := openTemp(t, Options{})
	name := filepath.Join(path, "f")
	data := make([]byte, 8192)
	old := bytes.Repeat([]byte("o"), len(data))
	begin := func() tree.Writer {
		t.Helper()
		u := treetest.Upload("f", data)
		u.InPlace, u.Sparse = true, true
		at, _, _, err := s.aim("f", false)
		if err != nil {
			t.Fatal(err)
		}
		w, err := s.begin(t.Context(), u, at, tree.Entry{Kind: tree.KindFile}, false)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	put := func(name string) {
		t.Helper()
		if err := os.WriteFile(name, old, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	put(name)
	if err := begin().Abort(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantFile(t, name, string(old))
	w := begin()
	if _, err := w.Commit(t.Context(), tree.Final{Size: int64(len(data)), Values: make([]tree.Value, 1)}); err != nil {
		t.Fatal(err)
	}
	wantFile(t, name, string(data))

	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	w = begin()
	put(name + "2")
	if err := os.Rename(name+"2", name); err != nil {
		t.Fatal(err)
	}
	if err := w.Abort(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantFile(t, name, string(old))
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := begin().Abort(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an upload in place that was aborted left its file: %v", err)
	}
}
