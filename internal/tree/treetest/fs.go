package treetest

import (
	"bytes"
	"io/fs"
	"math/rand/v2"
	"testing"

	"golang.org/x/sync/errgroup"

	"transferd/internal/tree"
)

const create = tree.OpenWrite | tree.OpenCreate

func open(t *testing.T, f tree.FS, p tree.Path, flags tree.OpenFlags) tree.File {
	t.Helper()
	file, err := f.OpenFile(t.Context(), p, flags, 0o644)
	if err != nil {
		t.Fatalf("OpenFile(%q, %b) = %v", p, flags, err)
	}
	return file
}

func writeAt(t *testing.T, f tree.File, off int64, data []byte) {
	t.Helper()
	if n, err := f.WriteAt(data, off); n != len(data) || err != nil {
		t.Fatalf("WriteAt(%d bytes, %d) = %d, %v", len(data), off, n, err)
	}
}

// fill makes the file p.
func fill(t *testing.T, f tree.FS, p tree.Path, data []byte) {
	t.Helper()
	file := open(t, f, p, create|tree.OpenTruncate)
	writeAt(t, file, 0, data)
	closeIt(t, file)
}

func testCreate(t *testing.T, f tree.FS, l Limits) {
	_, err := f.OpenFile(t.Context(), "f", tree.OpenWrite, 0o644)
	wantErr(t, l, "OpenFile without OpenCreate", err, fs.ErrNotExist)
	fill(t, f, "f", []byte("abc"))
	want(t, f, "f", []byte("abc"))
	file := open(t, f, "f", create)
	writeAt(t, file, 1, []byte("X"))
	ok(t, "Sync", file.Sync(t.Context()))
	closeIt(t, file)
	want(t, f, "f", []byte("aXc"))
	_, err = f.OpenFile(t.Context(), "no/f", create, 0o644)
	wantErr(t, l, "OpenFile without parent", err, fs.ErrNotExist)
}

func testExclusive(t *testing.T, f tree.FS, l Limits) {
	closeIt(t, open(t, f, "f", create|tree.OpenExclusive))
	ok(t, "Symlink", f.Symlink(t.Context(), "nowhere", "link"))
	for _, p := range []tree.Path{"f", "link"} {
		_, err := f.OpenFile(t.Context(), p, create|tree.OpenExclusive, 0o644)
		wantErr(t, l, "OpenFile(OpenExclusive) of an existing name", err, fs.ErrExist)
	}
	if _, err := f.Lstat(t.Context(), "nowhere"); err == nil {
		t.Error("OpenExclusive made what a dangling symlink leads to")
	}
}

func testTruncate(t *testing.T, f tree.FS, _ Limits) {
	fill(t, f, "f", []byte("0123456789"))
	file := open(t, f, "f", tree.OpenRead|tree.OpenWrite)
	ok(t, "SetAttr", file.SetAttr(t.Context(), tree.Attr{Size: ptr(int64(4))}))
	closeIt(t, file)
	want(t, f, "f", []byte("0123"))
	closeIt(t, open(t, f, "f", tree.OpenWrite|tree.OpenTruncate))
	want(t, f, "f", []byte{})
}

func testAppend(t *testing.T, f tree.FS, _ Limits) {
	fill(t, f, "f", []byte("start"))
	a := open(t, f, "f", tree.OpenWrite|tree.OpenAppend)
	b := open(t, f, "f", tree.OpenWrite|tree.OpenAppend)
	writeAt(t, a, 0, []byte("-a"))
	writeAt(t, b, 0, []byte("-b"))
	writeAt(t, a, 999, []byte("-c"))
	want(t, f, "f", []byte("start-a-b-c"))
	var group errgroup.Group
	for i := range 40 {
		group.Go(func() error {
			_, err := []tree.File{a, b}[i%2].WriteAt([]byte{byte(i)}, 0)
			return err
		})
	}
	ok(t, "concurrent appends", group.Wait())
	got := Get(t, f, "f")
	if len(got) != 11+40 {
		t.Fatalf("after 40 appends of a byte there are %d bytes, want %d", len(got), 11+40)
	}
	for i := range 40 {
		if bytes.Count(got[11:], []byte{byte(i)}) != 1 {
			t.Errorf("appended byte %d is there %d times", i, bytes.Count(got[11:], []byte{byte(i)}))
		}
	}
	closeIt(t, a)
	closeIt(t, b)
}

func testReadWrite(t *testing.T, f tree.FS, _ Limits) {
	file := open(t, f, "f", create|tree.OpenRead)
	defer closeIt(t, file)
	writeAt(t, file, 0, []byte("hello world"))
	buf := make([]byte, 5)
	if n, err := file.ReadAt(buf, 6); n != 5 || string(buf) != "world" {
		t.Errorf("ReadAt on the handle that wrote = %q, %v, want world", buf[:n], err)
	}
	e, err := file.Stat(t.Context())
	ok(t, "Stat", err)
	if e.Size != 11 || e.Kind != tree.KindFile {
		t.Errorf("Stat = %v of %d bytes, want a file of 11", e.Kind, e.Size)
	}
}

func testSparseExtend(t *testing.T, f tree.FS, _ Limits) {
	file := open(t, f, "f", create|tree.OpenRead)
	writeAt(t, file, 1<<20, []byte("end"))
	writeAt(t, file, 10, []byte("mid"))
	ok(t, "SetAttr", file.SetAttr(t.Context(), tree.Attr{Size: ptr(int64(2 << 20))}))
	closeIt(t, file)
	data := make([]byte, 2<<20)
	copy(data[1<<20:], "end")
	copy(data[10:], "mid")
	want(t, f, "f", data)
}

func testRandomWrites(t *testing.T, f tree.FS, _ Limits) {
	rng := rand.New(rand.NewPCG(1, 2))
	file := open(t, f, "f", create|tree.OpenRead)
	data := make([]byte, 200_000)
	writeAt(t, file, 0, data)
	for i := range 200 {
		piece := Data(byte(i), 1+rng.IntN(5000))
		off := rng.IntN(len(data) - len(piece))
		copy(data[off:], piece)
		writeAt(t, file, int64(off), piece)
	}
	closeIt(t, file)
	want(t, f, "f", data)
}

func testUnlinkWhileOpen(t *testing.T, f tree.FS, _ Limits) {
	file := open(t, f, "f", create|tree.OpenRead)
	writeAt(t, file, 0, []byte("kept"))
	ok(t, "Remove", f.Remove(t.Context(), "f"))
	writeAt(t, file, 4, []byte("!"))
	if got := readAll(t, file); string(got) != "kept!" {
		t.Errorf("a removed open file reads %q, want kept!", got)
	}
	closeIt(t, file)
	wantNames(t, f, tree.Root)
}

func testFileSetAttr(t *testing.T, f tree.FS, l Limits) {
	file := open(t, f, "f", create)
	ok(t, "Rename", f.Rename(t.Context(), "f", "g", tree.RenameReplace))
	ok(t, "SetAttr", file.SetAttr(t.Context(), tree.Attr{Perm: ptr(tree.Perm(0o604)), Mtime: ptr(moment())}))
	closeIt(t, file)
	e := lstat(t, f, "g")
	if e.Perm != 0o604 {
		t.Errorf("perm = %o, want 604", e.Perm)
	}
	wantMtime(t, l, e, moment())
}

func testOpenFollows(t *testing.T, f tree.FS, l Limits) {
	ok(t, "Mkdir", f.Mkdir(t.Context(), "d", 0o755))
	fill(t, f, "f", []byte("old"))
	ok(t, "Symlink", f.Symlink(t.Context(), "../f", "d/link"))
	fill(t, f, "d/link", []byte("through"))
	want(t, f, "f", []byte("through"))
	if e := lstat(t, f, "d/link"); e.Kind != tree.KindSymlink {
		t.Errorf("writing through a symlink made it a %v", e.Kind)
	}
	ok(t, "Symlink", f.Symlink(t.Context(), "loop", "loop"))
	if _, err := f.OpenFile(t.Context(), "loop", tree.OpenRead, 0); err == nil {
		t.Error("OpenFile of a symlink to itself succeeds")
	}
	_, err := f.OpenFile(t.Context(), "d/link", create|tree.OpenExclusive, 0o644)
	wantErr(t, l, "OpenFile(OpenExclusive) of a symlink", err, fs.ErrExist)
}

func testOpenDirectory(t *testing.T, f tree.FS, l Limits) {
	ok(t, "Mkdir", f.Mkdir(t.Context(), "d", 0o755))
	_, err := f.OpenFile(t.Context(), "d", create, 0o644)
	wantErr(t, l, "OpenFile of a directory", err, tree.ErrIsDir)
	_, err = f.OpenFile(t.Context(), tree.Root, tree.OpenRead, 0)
	wantErr(t, l, "OpenFile of the root", err, tree.ErrIsDir)
}

func testFSLink(t *testing.T, f tree.FS, l Limits) {
	if l.NoLinks {
		return
	}
	fill(t, f, "f", []byte("one"))
	ok(t, "Link", f.Link(t.Context(), "f", "g"))
	file := open(t, f, "g", tree.OpenWrite)
	writeAt(t, file, 0, []byte("two"))
	closeIt(t, file)
	want(t, f, "f", []byte("two"))
	wantErr(t, l, "Link to an existing name", f.Link(t.Context(), "f", "g"), fs.ErrExist)
}

func testFSSpace(t *testing.T, f tree.FS, _ Limits) { wantSpace(t, f) }
