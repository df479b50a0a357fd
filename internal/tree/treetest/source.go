package treetest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"testing"

	"golang.org/x/sync/errgroup"

	"transferd/internal/tree"
)

func testOpen(t *testing.T, s tree.Sink, l Limits) {
	data := Data(1, 300_000)
	Put(t, s, "f", data)
	mkdir(t, s, "d")
	_, err := s.Open(t.Context(), "no")
	wantErr(t, l, "Open of nothing", err, fs.ErrNotExist)
	_, err = s.Open(t.Context(), "f/no")
	wantErr(t, l, "Open below a file", err, tree.ErrNotDir)
	_, err = s.Open(t.Context(), "d")
	wantErr(t, l, "Open of a directory", err, tree.ErrNotRegular)

	r, err := s.Open(t.Context(), "f")
	ok(t, "Open", err)
	defer closeIt(t, r)
	for _, test := range []struct {
		off int64
		n   int
		got int
		err error
	}{
		{0, 10, 10, nil},
		{0, len(data), len(data), nil},
		{99_999, 200_001, 200_001, nil},
		{200_000, 200_000, 100_000, io.EOF},
		{int64(len(data)), 1, 0, io.EOF},
		{int64(len(data)) + 5, 1, 0, io.EOF},
	} {
		buf := make([]byte, test.n)
		n, err := r.ReadAt(buf, test.off)
		if n != test.got || (!errors.Is(err, test.err) && (!errors.Is(err, io.EOF) || test.off+int64(n) != int64(len(data)))) {
			t.Errorf("ReadAt(%d bytes, %d) = %d, %v, want %d, %v", test.n, test.off, n, err, test.got, test.err)
			continue
		}
		if n > 0 && !bytes.Equal(buf[:n], data[test.off:test.off+int64(n)]) {
			t.Errorf("ReadAt(%d bytes, %d) has wrong bytes", test.n, test.off)
		}
	}
	var group errgroup.Group
	for i := range 4 {
		group.Go(func() error {
			buf := make([]byte, 50_000)
			for off := i * 1000; off+len(buf) <= len(data); off += 33_333 {
				if _, err := r.ReadAt(buf, int64(off)); err != nil {
					return err
				}
				if !bytes.Equal(buf, data[off:off+len(buf)]) {
					t.Errorf("concurrent ReadAt at %d has wrong bytes", off)
				}
			}
			return nil
		})
	}
	ok(t, "concurrent ReadAt", group.Wait())
}

func testOpenHandle(t *testing.T, s tree.Sink, _ Limits) {
	Put(t, s, "f", []byte("old"))
	r, err := s.Open(t.Context(), "f")
	ok(t, "Open", err)
	defer closeIt(t, r)
	Put(t, s, "f", []byte("newer"))
	e, err := r.Stat(t.Context())
	ok(t, "Reader.Stat", err)
	if e.Size != 3 {
		t.Errorf("Reader.Stat tells %d bytes after the name was replaced, want 3", e.Size)
	}
	if got := readAll(t, r); string(got) != "old" {
		t.Errorf("an open file reads %q after its name was replaced, want old", got)
	}
	want(t, s, "f", []byte("newer"))
}

func testEndedContext(t *testing.T, s tree.Sink, _ Limits) {
	Put(t, s, "f", []byte("f"))
	ctx := ended(t)
	if _, err := s.Stat(ctx, "f"); err == nil {
		t.Error("Stat ignores an ended context")
	}
	if _, err := s.Begin(ctx, Upload("g", nil)); err == nil {
		t.Error("Begin ignores an ended context")
	}
	if err := s.Remove(ctx, "f"); err == nil {
		t.Error("Remove ignores an ended context")
	}
	want(t, s, "f", []byte("f"))
}

func testSub(t *testing.T, s tree.Sink, l Limits) {
	suber, is := s.(tree.Suber)
	if !is {
		return
	}
	mkdir(t, s, "d")
	mkdir(t, s, "d/e")
	mkdir(t, s, "d/e/f")
	Put(t, s, "secret", []byte("secret"))
	sub, err := suber.Sub(t.Context(), "d")
	ok(t, "Sub", err)
	defer closeIt(t, sub)
	Put(t, sub, "e/file", []byte("below"))
	want(t, s, "d/e/file", []byte("below"))
	deeper, err := sub.Sub(t.Context(), "e")
	ok(t, "Sub of a Sub", err)
	defer closeIt(t, deeper)
	want(t, deeper, "file", []byte("below"))
	wantNames(t, deeper, tree.Root, "f", "file")
	_, err = suber.Sub(t.Context(), "no")
	wantErr(t, l, "Sub of nothing", err, fs.ErrNotExist)
	symlink(t, sub, "../../d/e/file", "inside")
	symlink(t, sub, "../secret", "outside")
	symlink(t, sub, "..", "up")
	if !l.LooseSub {
		for _, p := range []tree.Path{"outside", "up/secret"} {
			if _, err := sub.Open(t.Context(), p); err == nil {
				t.Errorf("Sub(d).Open(%q) left d", p)
			}
			if _, err := sub.Stat(t.Context(), p); err == nil {
				t.Errorf("Sub(d).Stat(%q) left d", p)
			}
		}
		if err := sub.Mkdir(t.Context(), "up/made", 0o755); err == nil {
			t.Error("Sub(d).Mkdir(up/made) left d")
		}
	}
	ok(t, "Rename of the directory", s.Rename(t.Context(), "d", "moved", tree.RenameReplace))
	if !l.LooseSub && !l.NamedSub {
		want(t, sub, "e/file", []byte("below"))
	} else {
		ok(t, "Rename back", s.Rename(t.Context(), "moved", "d", tree.RenameReplace))
	}
}

func testSum(t *testing.T, s tree.Sink, l Limits) {
	summer, is := s.(tree.Summer)
	if !is {
		return
	}
	for _, n := range []int{0, 1, chunk, 2*chunk + 17} {
		data := Data(3, n)
		Put(t, s, "f", data)
		got, err := summer.Sum(t.Context(), "f")
		ok(t, "Sum", err)
		if want := FinalOf(data).Digest; got != want {
			t.Errorf("Sum of %d bytes = %v, want %v", n, got, want)
		}
	}
	_, err := summer.Sum(t.Context(), "no")
	wantErr(t, l, "Sum of nothing", err, fs.ErrNotExist)
}

func testLink(t *testing.T, s tree.Sink, l Limits) {
	linker, is := s.(tree.Linker)
	if !is || l.NoLinks {
		return
	}
	Put(t, s, "f", []byte("shared"))
	ok(t, "Link", linker.Link(t.Context(), "f", "g"))
	want(t, s, "g", []byte("shared"))
	wantErr(t, l, "Link to an existing name", linker.Link(t.Context(), "f", "g"), fs.ErrExist)
	wantErr(t, l, "Link of nothing", linker.Link(t.Context(), "no", "h"), fs.ErrNotExist)
	if a, b := lstat(t, s, "f"), lstat(t, s, "g"); a.Inode != b.Inode {
		t.Errorf("hard links have inodes %d and %d", a.Inode, b.Inode)
	}
}

func testSpace(t *testing.T, s tree.Sink, _ Limits) {
	if spacer, is := s.(tree.Spacer); is {
		wantSpace(t, spacer)
	}
}

func wantSpace(t *testing.T, s tree.Spacer) {
	t.Helper()
	space, err := s.StatFS(t.Context(), tree.Root)
	if errors.Is(err, errors.ErrUnsupported) {
		return
	}
	ok(t, "StatFS", err)
	if space.Total == 0 || space.Available > space.Total || space.BlockSize == 0 {
		t.Errorf("StatFS = %+v: no such disk", space)
	}
}
