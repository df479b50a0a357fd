//go:build linux

package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"transferd/internal/tree"
	"transferd/internal/tree/treetest"
)

func putSmall(t *testing.T, s *Store, p tree.Path, data string) {
	t.Helper()
	if _, err := s.Put(t.Context(), treetest.Small(p, []byte(data))); err != nil {
		t.Fatalf("Put(%q) = %v", p, err)
	}
}

func wantFile(t *testing.T, path, data string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != data {
		t.Errorf("%s = %q, %v, want %q", filepath.Base(path), got, err, data)
	}
}

// TestHeldDirectoryMoves: this process's renames and removals are noticed at
// once, those of others after a moment, and a directory that was removed and
// made again always.
func TestHeldDirectoryMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, path := openTemp(t, Options{})
		at := func(p string) string { return filepath.Join(path, p) }
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(s.Mkdir(t.Context(), "d", 0o755))
		putSmall(t, s, "d/1", "1")
		must(s.Rename(t.Context(), "d", "e", tree.RenameReplace))
		must(s.Mkdir(t.Context(), "d", 0o755))
		putSmall(t, s, "d/2", "2")
		wantFile(t, at("d/2"), "2")
		wantFile(t, at("e/1"), "1")

		must(os.RemoveAll(at("d")))
		must(os.Mkdir(at("d"), 0o755))
		putSmall(t, s, "d/3", "3")
		wantFile(t, at("d/3"), "3")
		if _, err := s.Get(t.Context(), "d/2", 10); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Get of what is gone with its directory = %v", err)
		}

		must(os.Rename(at("d"), at("f")))
		must(os.Mkdir(at("d"), 0o755))
		<-time.After(holdFor)
		putSmall(t, s, "d/4", "4")
		wantFile(t, at("d/4"), "4")
	})
}

// TestHeldDirectories: their number is bounded, and after a moment without use
// none is held.
func TestHeldDirectories(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := openTemp(t, Options{})
		before := openHandles(t)
		for i := range 3 * maxHeld {
			d := tree.Path(fmt.Sprintf("d%d", i))
			if err := s.Mkdir(t.Context(), d, 0o755); err != nil {
				t.Fatal(err)
			}
			putSmall(t, s, d.Join("f"), "f")
			s.held.mu.Lock()
			n := len(s.held.byPath)
			s.held.mu.Unlock()
			if n > maxHeld {
				t.Fatalf("%d directories are held", n)
			}
		}
		<-time.After(5 * holdFor)
		synctest.Wait()
		if n := openHandles(t); n != before {
			t.Errorf("%d handles are open after a while, %d before", n, before)
		}
		putSmall(t, s, "d1/g", "g")
	})
}

// TestPutSteps: until it has its name, a file has none, and replacing it
// goes by a locked partial.
func TestPutSteps(t *testing.T) {
	s, path := openTemp(t, Options{})
	var steps []string
	s.hub.trace = func(st step) error {
		steps = append(steps, string(st.op))
		switch st.op {
		case stepLink:
			if files := readDir(t, path); len(files) > 1 {
				t.Errorf("before %s there is %v", st.op, sortedKeys(files))
			}
		case stepRename:
			part := filepath.Join(path, st.name)
			f, err := os.Open(part)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			if err := flock(f, false); !errors.Is(err, errBusy) {
				t.Errorf("lock of the partial = %v, want it taken", err)
			}
		}
		return nil
	}
	putSmall(t, s, "f", "one")
	putSmall(t, s, "f", "two")
	wantFile(t, filepath.Join(path, "f"), "two")
	want := "create write sync link sync syncdir create write sync link link sync rename sync syncdir"
	if got := strings.Join(steps, " "); got != want {
		t.Errorf("steps = %s, want %s", got, want)
	}
}

// TestPutHeldByOthers: a partial that another process is writing is waited for.
func TestPutHeldByOthers(t *testing.T) {
	s, path := openTemp(t, Options{})
	s.hub.tuning.lockWait, s.hub.tuning.lockPoll = 20e6, 1e6
	cmd, out, in := command(t, path, "hold")
	if !out.Scan() {
		t.Fatal("the child does not hold the upload")
	}
	small := treetest.Small("target", []byte("small"))
	if _, err := s.Put(t.Context(), small); !errors.Is(err, tree.ErrBusy) {
		t.Errorf("Put of what another process writes = %v, want ErrBusy", err)
	}
	if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
		t.Fatal(err)
	}
	putSmall(t, s, "target", "small")
	wantFile(t, filepath.Join(path, "target"), "small")
	if files := readDir(t, path); len(files) != 1 {
		t.Errorf("left behind: %v", sortedKeys(files))
	}
}

// TestPutOnHost: what a person typed is followed; a FIFO is written.
func TestPutOnHost(t *testing.T) {
	path := t.TempDir()
	s := Host(Options{})
	root, err := HostPath(path)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, "real", []byte("old"))
	if err := errors.Join(os.Symlink("real", filepath.Join(path, "link")), unix.Mkfifo(filepath.Join(path, "fifo"), 0o600)); err != nil {
		t.Fatal(err)
	}
	putSmall(t, s, root.Join("link"), "through the link")
	wantFile(t, filepath.Join(path, "real"), "through the link")
	read := make(chan string, 1)
	go func() {
		data, _ := os.ReadFile(filepath.Join(path, "fifo"))
		read <- string(data)
	}()
	putSmall(t, s, root.Join("fifo"), "into the pipe")
	if got := <-read; got != "into the pipe" {
		t.Errorf("the FIFO gave %q", got)
	}
	if _, err := s.Get(t.Context(), root.Join("fifo"), 100); !errors.Is(err, tree.ErrNotRegular) {
		t.Errorf("Get of a FIFO = %v", err)
	}
	confined, path := openTemp(t, Options{})
	if err := unix.Mkfifo(filepath.Join(path, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := confined.Put(t.Context(), treetest.Small("fifo", nil)); !errors.Is(err, tree.ErrNotRegular) {
		t.Errorf("Put into a FIFO of a confined tree = %v", err)
	}
}

// TestPutShares: those that come while a group is synced share the next syncs.
func TestPutShares(t *testing.T) {
	s, _ := openTemp(t, Options{})
	var files, whole, dirs, written atomic.Int64
	const n = 100
	all := make(chan struct{})
	s.hub.sys.writeTemp = func(fd int, data []byte) error {
		if written.Add(1) == n {
			defer close(all)
		}
		return writeTemp(fd, data)
	}
	s.hub.sys.syncTemp = func(int) error {
		<-all
		files.Add(1)
		return nil
	}
	s.hub.sys.syncFS = func(*dir) error {
		whole.Add(1)
		return nil
	}
	s.hub.sys.syncDir = func(*dir) error {
		dirs.Add(1)
		return nil
	}
	done := make(chan error, n)
	for i := range n {
		go func() {
			_, err := s.Put(t.Context(), treetest.Small(tree.Path(fmt.Sprintf("f%d", i)), []byte("small")))
			done <- err
		}()
	}
	for range n {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	// How many groups there are is up to the scheduler; not one for each file.
	if total := files.Load() + whole.Load() + dirs.Load(); total > n {
		t.Errorf("%d syncs for %d files", total, n)
	}
}

// TestGetUnsettled: a file that was changed a moment ago is looked at again
// when its ctime must tell of another change.
func TestGetUnsettled(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, test := range []struct {
		age, want time.Duration
	}{
		{time.Hour, 0}, {ctimeGrain, 0}, {ctimeGrain - 1, 1}, {0, ctimeGrain}, {-time.Millisecond, ctimeGrain}, {-time.Hour, 0},
	} {
		if got := unsettled(tree.Entry{Ctime: now.Add(-test.age)}, now); got != test.want {
			t.Errorf("unsettled(changed %v ago) = %v, want %v", test.age, got, test.want)
		}
	}
}

// TestOwners: a tree with owners gives them to files, directories and symlinks,
// on every way there is; one without does not, and tells where it is asked.
func TestOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	owner := tree.Owner{UID: 12345, GID: 54321}
	for _, may := range []bool{true, false} {
		s, _ := openTemp(t, Options{Owners: may})
		own := func(p tree.Path) {
			t.Helper()
			e, err := s.Lstat(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			if got := (tree.Owner{UID: e.UID, GID: e.GID}); (got == owner) != may {
				t.Errorf("owners %v: %q belongs to %v", may, p, got)
			}
		}
		perm := tree.Perm(0o6755)
		attr := tree.Attr{Owner: &owner, Perm: &perm}
		for _, name := range []tree.Path{"f", "f"} { // a free name, then a taken one
			f := treetest.Small(name, []byte("small"))
			f.Attr = attr
			if _, err := s.Put(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			own(name)
		}
		data := treetest.Data(1, 2*mib)
		w := started(t, s, data)
		writeChunks(t, w, treetest.Chunks(data)...)
		final := treetest.FinalOf(data)
		final.Attr = attr
		if _, err := w.Commit(t.Context(), final); err != nil {
			t.Fatal(err)
		}
		own("f")
		e, err := s.Lstat(t.Context(), "f")
		if want := map[bool]tree.Perm{true: 0o6755, false: 0o755}[may]; err != nil || e.Perm != want {
			t.Errorf("owners %v: mode %o, want %o", may, e.Perm, want)
		}
		if err := errors.Join(s.Mkdir(t.Context(), "d", 0o755), s.Symlink(t.Context(), "nowhere", "l")); err != nil {
			t.Fatal(err)
		}
		for _, p := range []tree.Path{"d", "l"} {
			err := s.SetAttr(t.Context(), p, tree.Attr{Owner: &owner})
			if (err == nil) != may || (!may && !errors.Is(err, fs.ErrPermission)) {
				t.Errorf("owners %v: SetAttr(%q) = %v", may, p, err)
			}
			own(p)
		}
	}
}

// TestSlowWholeSync: a filesystem with much to write for others is not synced
// as a whole for a while.
func TestSlowWholeSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := openTemp(t, Options{})
		s.hub.sys.syncFS = func(*dir) error {
			<-time.After(slowWhole + 1)
			return nil
		}
		d, err := s.hold(".")
		if err != nil {
			t.Fatal(err)
		}
		defer s.held.letGo(d)
		var batch []*smallFile
		for range wholeFrom {
			batch = append(batch, &smallFile{s: s, d: d})
		}
		g := &putGroup{}
		for _, test := range []struct {
			after time.Duration
			want  bool
		}{{0, true}, {0, false}, {pauseWhole - 1, false}, {1, true}} {
			<-time.After(test.after)
			if got := s.hub.syncWhole(g, batch); got != test.want {
				t.Errorf("syncWhole %v later = %v, want %v", test.after, got, test.want)
			}
		}
		if s.hub.syncWhole(&putGroup{}, batch[:wholeFrom-1]) {
			t.Error("syncWhole for few files")
		}
	})
}
