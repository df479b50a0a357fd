//go:build linux

package store

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"transferd/internal/tree"
	"transferd/internal/tree/treetest"
)

const day = 24 * time.Hour

// aging is a clock that tests move.
type aging struct{ ahead time.Duration }

func (a *aging) now() time.Time { return time.Now().Add(a.ahead) }

func sweep(t *testing.T, s *Store, maxAge time.Duration, want int) {
	t.Helper()
	if n, err := s.Sweep(t.Context(), maxAge); n != want || err != nil {
		t.Errorf("Sweep(%v) = %d, %v, want %d", maxAge, n, err, want)
	}
}

func TestSweep(t *testing.T) {
	state := t.TempDir()
	clock := &aging{}
	s, path := openTemp(t, Options{StateDir: state, Now: clock.now, Log: slog.New(slog.DiscardHandler)})
	data := treetest.Data(1, 3*mib)
	odd := tree.Path("d \xff\n")
	for _, d := range []tree.Path{odd, "live", "done", "foreign", "gone"} {
		if err := s.Mkdir(t.Context(), d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	suspend := func(p tree.Path) {
		t.Helper()
		w, err := s.Begin(t.Context(), treetest.Upload(p, data))
		if err != nil {
			t.Fatal(err)
		}
		writeChunks(t, w, treetest.Chunks(data)[0])
		if err := w.Suspend(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	suspend(odd.Join("a"))
	suspend(odd.Join("b"))
	suspend("gone/a")
	if err := os.RemoveAll(filepath.Join(path, "gone")); err != nil {
		t.Fatal(err)
	}
	treetest.Put(t, s, "done/f", data)
	live, err := s.Begin(t.Context(), treetest.Upload("live/f", data))
	if err != nil {
		t.Fatal(err)
	}
	writeChunks(t, live, treetest.Chunks(data)...)

	// What an SFTP client makes with our names is found as well.
	foreign, err := s.OpenFile(t.Context(), tree.Path("foreign").Join(tree.PartialName("o", "f")+".part"), tree.OpenWrite|tree.OpenCreate, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(path, "foreign"), "not ours.part", nil)

	sweep(t, s, 7*day, 0)
	clock.ahead = 8 * day
	sweep(t, s, 7*day, 2) // a and b; the others are held
	sweep(t, s, 7*day, 0)
	if err := foreign.Close(); err != nil {
		t.Fatal(err)
	}
	sweep(t, s, 7*day, 1)
	if _, err := live.Commit(t.Context(), treetest.FinalOf(data)); err != nil {
		t.Fatal(err)
	}
	if got := treetest.Get(t, s, "live/f"); string(got) != string(data) {
		t.Error("the file that was live during Sweep is wrong")
	}
	for dir, want := range map[string]int{odd.String(): 0, "foreign": 1, "live": 1, "done": 1} {
		if files := readDir(t, filepath.Join(path, dir)); len(files) != want {
			t.Errorf("in %q there is %v, want %d files", dir, sortedKeys(files), want)
		}
	}
	sweep(t, s, 7*day, 0)
	if dirs, err := s.hub.index.read(); err != nil || len(dirs) != 0 {
		t.Errorf("the index still has %v, %v", dirs, err)
	}
	// The index goes on after it was rewritten.
	suspend(odd.Join("c"))
	clock.ahead += 8 * day
	sweep(t, s, 7*day, 1)
}

// TestSweepOfAnotherRun: what an earlier process left is found, also through a
// Host and its Subs, and other roots are left alone.
func TestSweepOfAnotherRun(t *testing.T) {
	state := t.TempDir()
	clock := &aging{}
	o := Options{StateDir: state, Now: clock.now}
	path := t.TempDir()
	p, err := HostPath(path)
	if err != nil {
		t.Fatal(err)
	}
	data := treetest.Data(1, 3*mib)
	first := Host(o)
	sub, err := first.Sub(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	w, err := sub.Begin(t.Context(), treetest.Upload("f", data))
	if err != nil {
		t.Fatal(err)
	}
	writeChunks(t, w, treetest.Chunks(data)[0])
	if err := w.Suspend(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := sub.Close(); err != nil {
		t.Fatal(err)
	}
	clock.ahead = 2 * day
	other, _ := openTemp(t, o)
	sweep(t, other, day, 0)
	if files := readDir(t, path); len(files) != 2 {
		t.Fatalf("another root's Sweep left %v", sortedKeys(files))
	}
	sweep(t, Host(o), 3*day, 0)
	sweep(t, Host(o), day, 1)
	if files := readDir(t, path); len(files) != 0 {
		t.Errorf("Sweep left %v", sortedKeys(files))
	}
}

// TestSweepBehindSymlink: the partial of an upload to a typed symlink lies
// beside the referent.
func TestSweepBehindSymlink(t *testing.T) {
	clock := &aging{}
	s := Host(Options{StateDir: t.TempDir(), Now: clock.now})
	real, links := t.TempDir(), t.TempDir()
	if err := os.Symlink(filepath.Join(real, "f"), filepath.Join(links, "f")); err != nil {
		t.Fatal(err)
	}
	p, err := HostPath(filepath.Join(links, "f"))
	if err != nil {
		t.Fatal(err)
	}
	data := treetest.Data(1, 3*mib)
	w, err := s.Begin(t.Context(), treetest.Upload(p, data))
	if err != nil {
		t.Fatal(err)
	}
	writeChunks(t, w, treetest.Chunks(data)[0])
	if err := w.Suspend(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(readDir(t, real)) != 2 {
		t.Errorf("beside the referent there is %v", sortedKeys(readDir(t, real)))
	}
	clock.ahead = 2 * day
	sweep(t, s, day, 1)
}

// TestIndexSurvives: torn lines and two processes that write at once.
func TestIndexSurvives(t *testing.T) {
	state := t.TempDir()
	a, b := newIndex(state, newHub(Options{})), newIndex(state, newHub(Options{}))
	a.note(t.Context(), indexed{dir: "one"})
	b.note(t.Context(), indexed{dir: "two"})
	f, err := os.OpenFile(a.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("{\"root\":\"torn\n"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	a.note(t.Context(), indexed{dir: "three"})
	if err := b.shrink(t.Context(), func(k indexed, _ time.Time) bool { return k.dir == "one" }); err != nil {
		t.Fatal(err)
	}
	a.note(t.Context(), indexed{dir: "four"})
	dirs, err := a.read()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"two", "three", "four"} {
		if _, ok := dirs[indexed{dir: dir}]; !ok {
			t.Errorf("the index lost %q: %v", dir, dirs)
		}
	}
	if len(dirs) != 3 {
		t.Errorf("the index has %v", dirs)
	}
}

func TestTidyRemovesWhatAKillLeft(t *testing.T) {
	root := t.TempDir()
	s, err := Open(root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	stem := filepath.Join(root, tree.PartialName("here", "f"))
	other := filepath.Join(root, tree.PartialName("there", "f")+partSuffix)
	for _, path := range []string{stem + partSuffix, stem + journalSuffix, other} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	held, err := os.OpenFile(stem+partSuffix, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.hub.sys.lock(held, false); err != nil {
		t.Fatal(err)
	}
	if err := s.Tidy(t.Context(), "f", "here"); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(stem + partSuffix); err != nil {
		t.Errorf("Tidy removed what a writer holds: %v", err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Tidy(t.Context(), "f", "here"); err != nil {
		t.Error(err)
	}
	if files := readDir(t, root); len(files) != 1 {
		t.Errorf("left are %v, want the partial of another source alone", sortedKeys(files))
	}
	if err := s.Tidy(t.Context(), "missing/f", "here"); err == nil {
		t.Error("Tidy in a directory that is not there = nil")
	}
}
