//go:build linux

package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"transferd/internal/tree"
	"transferd/internal/tree/treetest"
)

func typedPath(t *testing.T, elem ...string) tree.Path {
	t.Helper()
	p, err := HostPath(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestHostPath(t *testing.T) {
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(top, "a/b/c"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a/b/c", filepath.Join(top, "link")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Join(top, "a"))
	rel := strings.TrimPrefix(top, "/")
	for in, want := range map[string]string{
		"/":                     ".",
		"//":                    ".",
		"/etc/../etc/passwd":    "etc/passwd",
		"b":                     rel + "/a/b",
		"./b//c/":               rel + "/a/b/c",
		".":                     rel + "/a",
		"..":                    rel,
		"../../../../../../../": ".",
		"new/name":              rel + "/a/new/name",
		top + "/link/x":         rel + "/link/x",
		top + "/link/..":        rel + "/a/b", // not top: the system goes up from where link leads
		"odd \n\xff":            rel + "/a/odd \n\xff",
	} {
		if got, err := HostPath(in); err != nil || string(got) != want {
			t.Errorf("HostPath(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"", "no/../x", "a\x00b"} {
		if got, err := HostPath(in); err == nil {
			t.Errorf("HostPath(%q) = %q, want an error", in, got)
		}
	}
}

// TestHostFollows: what a person types is resolved as the system does, and the
// referent of a last symlink is what an upload replaces.
func TestHostFollows(t *testing.T) {
	path := t.TempDir()
	for _, d := range []string{"real", "links"} {
		if err := os.Mkdir(filepath.Join(path, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(path, "real"), "file", []byte("old"))
	for name, target := range map[string]string{"abs": filepath.Join(path, "real/file"), "rel": "../real/file", "new": "../real/new", "dir": filepath.Join(path, "real")} {
		if err := os.Symlink(target, filepath.Join(path, "links", name)); err != nil {
			t.Fatal(err)
		}
	}
	s := Host(Options{})
	data := treetest.Data(1, 2*mib)
	for link, real := range map[string]string{"abs": "file", "rel": "file", "new": "new", "dir/through": "through"} {
		treetest.Put(t, s, typedPath(t, path, "links", link), data)
		got, err := os.ReadFile(filepath.Join(path, "real", real))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("after an upload to %s its referent has %d bytes, %v", link, len(got), err)
		}
		if got := treetest.Get(t, s, typedPath(t, path, "links", link)); !bytes.Equal(got, data) {
			t.Errorf("Get(%s) has %d bytes", link, len(got))
		}
	}
	if target, err := os.Readlink(filepath.Join(path, "links", "abs")); err != nil || target != filepath.Join(path, "real/file") {
		t.Errorf("the symlink is now %q, %v", target, err)
	}
	if n := len(readDirNames(t, filepath.Join(path, "links"))); n != 4 {
		t.Errorf("%d names among the links, want 4", n)
	}
	_, err := s.Stat(t.Context(), typedPath(t, path, "no"))
	if want := filepath.Join(path, "no"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), want) {
		t.Errorf("Stat of nothing = %v, want ErrNotExist that names %s", err, want)
	}
}

func readDirNames(t *testing.T, path string) []string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	names, err := f.Readdirnames(-1)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestSpecialFiles: nothing waits for anybody, and nothing is renamed over.
func TestSpecialFiles(t *testing.T) {
	confined, path := openTemp(t, Options{})
	fifo := filepath.Join(path, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mknod(filepath.Join(path, "socket"), syscall.S_IFSOCK|0o600, 0); err != nil {
		t.Fatal(err)
	}
	host := Host(Options{})
	for _, name := range []string{"fifo", "socket"} {
		for _, flags := range []tree.OpenFlags{tree.OpenRead, tree.OpenWrite, tree.OpenRead | tree.OpenWrite | tree.OpenCreate | tree.OpenTruncate} {
			if _, err := confined.OpenFile(t.Context(), tree.Path(name), flags, 0); !errors.Is(err, tree.ErrNotRegular) {
				t.Errorf("OpenFile(%s, %b) = %v, want ErrNotRegular", name, flags, err)
			}
			if _, err := host.OpenFile(t.Context(), typedPath(t, path, name), flags, 0); !errors.Is(err, tree.ErrNotRegular) {
				t.Errorf("Host: OpenFile(%s, %b) = %v, want ErrNotRegular", name, flags, err)
			}
		}
		if err := beginErr(t, confined, tree.Path(name)); !errors.Is(err, tree.ErrNotRegular) {
			t.Errorf("Begin(%s) in a confined tree = %v, want ErrNotRegular", name, err)
		}
	}
	if err := beginErr(t, host, typedPath(t, path, "socket")); !errors.Is(err, tree.ErrNotRegular) {
		t.Errorf("Begin(socket) = %v, want ErrNotRegular", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := host.Begin(ctx, treetest.Upload(typedPath(t, fifo), nil)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Begin of a FIFO that nobody reads = %v, want DeadlineExceeded", err)
	}
}

// TestFIFO: a file that is copied into a FIFO arrives in order.
func TestFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	host := Host(Options{})
	host.hub.tuning.lockPoll = time.Millisecond
	read := make(chan []byte, 1)
	go func() {
		f, err := os.Open(path)
		if err != nil {
			read <- nil
			return
		}
		defer func() { _ = f.Close() }()
		got, _ := io.ReadAll(f)
		read <- got
	}()
	data := treetest.Data(1, 5*mib+7)
	w, err := host.Begin(t.Context(), treetest.Upload(typedPath(t, path), data))
	if err != nil {
		t.Fatal(err)
	}
	chunks := treetest.Chunks(data)
	second := make(chan error, 1) // comes too early, and waits
	go func() { second <- w.WriteChunk(t.Context(), chunks[1]) }()
	writeChunks(t, w, chunks[0])
	if err := <-second; err != nil {
		t.Error(err)
	}
	writeChunks(t, w, chunks[2:]...)
	if _, err := w.Commit(t.Context(), treetest.FinalOf(data)); err != nil {
		t.Fatal(err)
	}
	if got := <-read; !bytes.Equal(got, data) {
		t.Errorf("%d bytes came out of the FIFO, want the %d that went in", len(got), len(data))
	}
	if info, err := os.Lstat(path); err != nil || info.Mode().Type() != fs.ModeNamedPipe {
		t.Errorf("the FIFO is now %v, %v", info.Mode(), err)
	}
}

func TestDevNull(t *testing.T) {
	host := Host(Options{})
	treetest.Put(t, host, "dev/null", treetest.Data(1, 2*mib))
	f, err := host.OpenFile(t.Context(), "dev/null", tree.OpenWrite|tree.OpenCreate|tree.OpenTruncate, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("x"), 5); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if e, err := host.Lstat(t.Context(), "dev/null"); err != nil || e.Kind != tree.KindCharDevice {
		t.Errorf("/dev/null is now a %v, %v", e.Kind, err)
	}
}

// TestPerm: setuid and setgid are for trees with owners, and a file whose mode
// nobody says gets what creating it would give, or keeps what it had.
func TestPerm(t *testing.T) {
	for _, owners := range []bool{false, true} {
		s, path := openTemp(t, Options{Owners: owners})
		want := tree.Perm(0o755)
		if owners {
			want = 0o6755
		}
		perm := tree.Perm(0o6755)
		w := started(t, s, nil)
		f := treetest.FinalOf(nil)
		f.Attr.Perm = &perm
		if _, err := w.Commit(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		check := func(p tree.Path, want tree.Perm) {
			t.Helper()
			if e, err := s.Lstat(t.Context(), p); err != nil || e.Perm != want {
				t.Errorf("owners %v: perm of %s = %o, %v, want %o", owners, p, e.Perm, err, want)
			}
		}
		check("f", want)
		if err := s.SetAttr(t.Context(), "f", tree.Attr{Perm: &perm}); err != nil {
			t.Fatal(err)
		}
		check("f", want)

		f.Attr = tree.Attr{}
		w = started(t, s, nil)
		if _, err := w.Commit(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		check("f", 0o755)
		if err := s.Remove(t.Context(), "f"); err != nil {
			t.Fatal(err)
		}
		w = started(t, s, nil)
		if _, err := w.Commit(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		check("f", 0o666&^processUmask())

		// A directory keeps the setgid that gives its files their group.
		if err := os.Mkdir(filepath.Join(path, "d"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(path, "d"), 0o755|fs.ModeSetgid); err != nil {
			t.Fatal(err)
		}
		plain := tree.Perm(0o700)
		if err := s.SetAttr(t.Context(), "d", tree.Attr{Perm: &plain}); err != nil {
			t.Fatal(err)
		}
		if owners {
			check("d", 0o700)
		} else {
			check("d", 0o2700)
		}
		err := s.SetAttr(t.Context(), "f", tree.Attr{Owner: &tree.Owner{UID: 12345, GID: 54321}})
		if owners == (err != nil) && os.Geteuid() == 0 {
			t.Errorf("owners %v: SetAttr of an owner = %v", owners, err)
		}
	}
}

// TestReadOnlyDirectory: what may not be written says so and names the path.
func TestReadOnlyDirectory(t *testing.T) {
	s, _ := openTemp(t, Options{})
	s.hub.sys.renameNoReplace = func(*dir, string, *dir, string) error { return syscall.EROFS }
	data := []byte("x")
	u := treetest.Upload("f", data)
	u.NoReplace = true
	w, err := s.Begin(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	writeChunks(t, w, treetest.Chunks(data)...)
	if _, err := w.Commit(t.Context(), treetest.FinalOf(data)); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "f: read-only") {
		t.Errorf("Commit on a read-only filesystem = %v, want ErrPermission that names f", err)
	}
}

// TestFIFOThatNobodyReadsAnyMore: a write to it ends with its context.
func TestFIFOThatNobodyReadsAnyMore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(path, os.O_RDWR, 0) // which waits for nobody (fifo(7))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	host := Host(Options{})
	data := treetest.Data(1, 1<<20)
	w, err := host.Begin(t.Context(), treetest.Upload(typedPath(t, path), data))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.WriteChunk(ctx, treetest.Chunks(data)[0]) }()
	if _, err := io.ReadFull(reader, make([]byte, 100)); err != nil { // it is writing
		t.Fatal(err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("WriteChunk = %v, want Canceled", err)
	}
	if err := w.Suspend(t.Context()); err != nil {
		t.Error(err)
	}
}
