//go:build linux

package store

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"transferd/internal/tree"
	"transferd/internal/tree/treetest"
)

func openHandles(t *testing.T) int {
	t.Helper()
	return len(readDirNames(t, "/proc/self/fd"))
}

// TestNoHandlesLeak: whatever succeeds or fails, every handle is closed.
func TestNoHandlesLeak(t *testing.T) {
	s, path := openTemp(t, Options{StateDir: t.TempDir()})
	if err := os.Symlink("loop", path+"/loop"); err != nil {
		t.Fatal(err)
	}
	data := treetest.Data(1, 2*mib)
	treetest.Put(t, s, "f", data)
	before := openHandles(t)
	for range 20 {
		for _, p := range []tree.Path{"f", "no", "no/no", "f/no", "loop", tree.Root, "../x"} {
			for _, err := range everyWayReadOnly(t, s, p) {
				_ = err
			}
			_ = s.Mkdir(t.Context(), p, 0o755)
			_ = s.Rename(t.Context(), p, "no/x", tree.RenameReplace)
			_ = s.Link(t.Context(), p, "no/x")
			_ = s.SetAttr(t.Context(), p.Join("no"), tree.Attr{})
			_ = beginErr(t, s, p)
			_, _ = s.Sweep(t.Context(), 0)
		}
		w := started(t, s, data)
		writeChunks(t, w, treetest.Chunks(data)[0])
		_, _ = w.Commit(t.Context(), treetest.FinalOf(data)) // a chunk is missing
		again := started(t, s, data)
		last := started(t, s, data)
		_ = again.Suspend(t.Context())
		if err := last.Abort(t.Context()); err != nil {
			t.Fatal(err)
		}
		_ = s.Remove(t.Context(), "no")
	}
	if after := openHandles(t); after != before {
		t.Errorf("%d handles open, before it were %d", after, before)
	}
	if len(s.hub.claims.held) != 0 || len(s.hub.dirs.groups) != 0 {
		t.Errorf("%d claims and %d directory syncs left", len(s.hub.claims.held), len(s.hub.dirs.groups))
	}
}

func everyWayReadOnly(t *testing.T, s *Store, p tree.Path) []error {
	t.Helper()
	var errs []error
	_, err := s.Stat(t.Context(), p)
	errs = append(errs, err)
	if r, err := s.Open(t.Context(), p); err == nil {
		errs = append(errs, r.Close())
	}
	_, err = s.Sum(t.Context(), p)
	errs = append(errs, err)
	if sub, err := s.Sub(t.Context(), p); err == nil {
		errs = append(errs, sub.Close())
	}
	for _, err := range s.List(t.Context(), p) {
		errs = append(errs, err)
		break
	}
	_, err = s.StatFS(t.Context(), p)
	return append(errs, err)
}

// TestClosed: a closed Store does nothing, and what was open of it goes on.
func TestClosed(t *testing.T) {
	s, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	data := treetest.Data(1, 2*mib)
	w := started(t, s, data)
	closeStore(t, s)
	closeStore(t, s)
	if _, err := s.Stat(t.Context(), tree.Root); !errors.Is(err, tree.ErrClosed) {
		t.Errorf("Stat after Close = %v, want ErrClosed", err)
	}
	if _, err := s.Sub(t.Context(), tree.Root); !errors.Is(err, tree.ErrClosed) {
		t.Errorf("Sub after Close = %v, want ErrClosed", err)
	}
	writeChunks(t, w, treetest.Chunks(data)...)
	if _, err := w.Commit(t.Context(), treetest.FinalOf(data)); err != nil {
		t.Errorf("Commit after Close = %v", err)
	}
}

// TestCloseRace: operations that run while the Store is closed either work or
// fail; under the race detector nothing else.
func TestCloseRace(t *testing.T) {
	s, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				if _, err := s.Stat(t.Context(), tree.Root); errors.Is(err, tree.ErrClosed) {
					return
				}
			}
		})
	}
	closeStore(t, s)
	wg.Wait()
}

// TestDirSyncShared: those who come while an fsync runs share the next one.
func TestDirSyncShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d dirSyncs
		var syncs atomic.Int64
		disk := make(chan struct{})
		var wg sync.WaitGroup
		start := func() {
			wg.Go(func() {
				if err := d.sync(dirID{1, 2}, func() error {
					syncs.Add(1)
					<-disk
					return nil
				}); err != nil {
					t.Error(err)
				}
			})
		}
		start()
		synctest.Wait()
		for range 20 {
			start()
		}
		synctest.Wait()
		if n := syncs.Load(); n != 1 {
			t.Errorf("%d fsyncs begun while the first one runs, want 1", n)
		}
		close(disk)
		wg.Wait()
		if n := syncs.Load(); n != 2 {
			t.Errorf("%d fsyncs for 1 and 20 who wait, want 2", n)
		}
		if len(d.groups) != 0 {
			t.Errorf("%d groups left", len(d.groups))
		}
	})
}

// TestMadeDirectories: the names of new directories above a file are durable
// with it, and those of empty ones when the Store is closed.
func TestMadeDirectories(t *testing.T) {
	s, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	synced := map[dirID]bool{}
	s.hub.sys.syncDir = func(d *dir) error {
		id, err := d.id()
		synced[id] = true
		return err
	}
	id := func(p tree.Path) dirID {
		t.Helper()
		e, err := s.Lstat(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		return dirID{dev: e.Device, ino: e.Inode}
	}
	for _, p := range []tree.Path{"a", "a/b", "a/b/c", "x", "x/empty"} {
		if err := s.Mkdir(t.Context(), p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	treetest.Put(t, s, "a/b/c/f", []byte("f"))
	for _, p := range []tree.Path{"a/b/c", "a/b", "a", tree.Root} {
		if !synced[id(p)] {
			t.Errorf("%s is not synced with a file below it", p)
		}
	}
	if synced[id("x")] {
		t.Error("x is synced with a file elsewhere")
	}
	x := id("x")
	closeStore(t, s)
	if !synced[x] {
		t.Error("x is not synced by Close")
	}
}

// TestMadeDirectoryOfTwo: who finds that another one is making the name of a new
// directory durable waits for that.
func TestMadeDirectoryOfTwo(t *testing.T) {
	s, _ := openTemp(t, Options{})
	if err := s.Mkdir(t.Context(), "a", 0o755); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		d, err := s.dirAt("a")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = d.Close() }()
		a, err := d.id()
		if err != nil {
			t.Fatal(err)
		}
		above := make(chan struct{})
		real := s.hub.sys.syncDir
		defer func() { s.hub.sys.syncDir = real }()
		s.hub.sys.syncDir = func(d *dir) error {
			if id, err := d.id(); err != nil || id == a {
				return err
			}
			<-above
			return nil
		}
		var done atomic.Int32
		for range 2 {
			go func() {
				if err := s.hub.syncDir(d); err != nil {
					t.Error(err)
				}
				done.Add(1)
			}()
			synctest.Wait()
			if n := done.Load(); n != 0 {
				t.Errorf("%d are done before the directory above", n)
			}
		}
		close(above)
		synctest.Wait()
		if n := done.Load(); n != 2 || len(s.hub.dirs.made) != 0 {
			t.Errorf("%d are done, and %d directories not durable", n, len(s.hub.dirs.made))
		}
	})
}
