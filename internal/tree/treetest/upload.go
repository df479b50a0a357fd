package treetest

import (
	"fmt"
	"io/fs"
	"testing"

	"github.com/google/go-cmp/cmp"

	"transferd/internal/tree"
)

func testUploadSizes(t *testing.T, s tree.Sink, l Limits) {
	for _, n := range []int{0, 1, 4096, chunk - 1, chunk, chunk + 1, 3*chunk + 5, 8 * chunk} {
		data := Data(byte(n), n)
		p := tree.Path(fmt.Sprintf("f%d", n))
		u := Upload(p, data)
		w := begin(t, s, u)
		write(t, w, Chunks(data))
		if _, err := s.Lstat(t.Context(), p); err == nil {
			t.Errorf("%q exists before Commit", p)
		}
		r := commit(t, w, FinalOf(data))
		if r.Verified == "" || (r.Volatile && !l.VolatileSync) {
			t.Errorf("Receipt of %d bytes = %+v, want it verified and durable", n, r)
		}
		want(t, s, p, data)
		e := lstat(t, s, p)
		if e.Perm != 0o640 {
			t.Errorf("perm of %q = %o, want 640", p, e.Perm)
		}
		wantMtime(t, l, e, moment())
		ok(t, "Remove", s.Remove(t.Context(), p))
		wantNames(t, s, tree.Root)
	}
}

func testUploadUnknownSize(t *testing.T, s tree.Sink, _ Limits) {
	for _, n := range []int{0, 5, chunk, 2*chunk + 9} {
		data := Data(2, n)
		u := Upload("f", data)
		u.Size = -1
		send(t, s, u, data)
		want(t, s, "f", data)
		wantNames(t, s, tree.Root, "f")
	}
}

func testUploadReplaces(t *testing.T, s tree.Sink, _ Limits) {
	for _, n := range []int{9, 2*chunk + 1} {
		old, data := Data(4, n+3), Data(5, n)
		Put(t, s, "f", old)
		w := begin(t, s, Upload("f", data))
		write(t, w, Chunks(data))
		want(t, s, "f", old)
		commit(t, w, FinalOf(data))
		want(t, s, "f", data)
	}
	wantNames(t, s, tree.Root, "f")
}

func testUploadOntoSymlink(t *testing.T, s tree.Sink, _ Limits) {
	suber, is := s.(tree.Suber)
	if !is {
		return
	}
	mkdir(t, s, "d")
	Put(t, s, "other", []byte("other"))
	symlink(t, s, "../other", "d/link")
	sub, err := suber.Sub(t.Context(), "d")
	ok(t, "Sub", err)
	defer closeIt(t, sub)
	Put(t, sub, "link", []byte("new"))
	want(t, s, "other", []byte("other"))
	if e := lstat(t, s, "d/link"); e.Kind != tree.KindFile {
		t.Errorf("a symlink below Sub is a %v after an upload to it, want a file", e.Kind)
	}
}

func testUploadNoReplace(t *testing.T, s tree.Sink, l Limits) {
	for _, n := range []int{9, 2*chunk + 1} {
		Put(t, s, "f", []byte("old"))
		data := Data(6, n)
		u := Upload("f", data)
		u.NoReplace = true
		w := begin(t, s, u)
		write(t, w, Chunks(data))
		_, err := w.Commit(t.Context(), FinalOf(data))
		wantErr(t, l, "Commit with NoReplace", err, fs.ErrExist)
		want(t, s, "f", []byte("old"))
		ok(t, "Remove", s.Remove(t.Context(), "f"))
		send(t, s, u, data)
		want(t, s, "f", data)
	}
	wantNames(t, s, tree.Root, "f")
}

func testUploadNowhere(t *testing.T, s tree.Sink, l Limits) {
	_, err := s.Begin(t.Context(), Upload("no/f", []byte("x")))
	wantErr(t, l, "Begin without parent", err, fs.ErrNotExist)
	mkdir(t, s, "d")
	_, err = s.Begin(t.Context(), Upload("d", []byte("x")))
	wantErr(t, l, "Begin of a directory", err, tree.ErrIsDir)
	wantNames(t, s, "d")
	wantNames(t, s, tree.Root, "d")
}

func testUploadInPlace(t *testing.T, s tree.Sink, _ Limits) {
	for _, n := range []int{100, 2*chunk + 1} {
		Put(t, s, "f", Data(7, n+2000))
		before := lstat(t, s, "f")
		data := Data(8, n)
		u := Upload("f", data)
		u.InPlace = true
		send(t, s, u, data)
		want(t, s, "f", data)
		if after := lstat(t, s, "f"); after.Inode != before.Inode {
			t.Errorf("InPlace changed the inode from %d to %d", before.Inode, after.Inode)
		}
		wantNames(t, s, tree.Root, "f")
	}
}

func testUploadVerifyFull(t *testing.T, s tree.Sink, _ Limits) {
	for _, n := range []int{0, 77, 3*chunk + 1} {
		data := Data(9, n)
		u := Upload("f", data)
		u.Verify = tree.VerifyFull
		if r := send(t, s, u, data); r.Verified != tree.VerifiedFull {
			t.Errorf("Receipt.Verified of %d bytes = %q, want full", n, r.Verified)
		}
		want(t, s, "f", data)
	}
}

// testUploadSparse uploads six chunks: data, hole, hole, half data, hole, data.
func testUploadSparse(t *testing.T, s tree.Sink, l Limits) {
	data := make([]byte, 6*chunk)
	copy(data, Data(10, chunk))
	copy(data[3*chunk+chunk/2:], Data(11, chunk/2))
	copy(data[5*chunk:], Data(12, chunk))
	holes := tree.Extent{Offset: chunk, Length: 2*chunk + chunk/2}
	u := Upload("f", data)
	u.Sparse = true
	w := begin(t, s, u)
	f := FinalOf(data)
	f.HasDigest, f.Digest = false, tree.Digest{}
	for _, c := range Chunks(data) {
		switch c.Index {
		case 1, 2, 4:
			f.Values[c.Index] = tree.Value{}
			continue
		case 3:
			c.Extents = []tree.Extent{{Offset: 3*chunk + chunk/2, Length: chunk / 2}}
		}
		write(t, w, []tree.Chunk{c})
	}
	commit(t, w, f)
	want(t, s, "f", data)
	if l.NoHoles {
		return
	}
	r, err := s.Open(t.Context(), "f")
	ok(t, "Open", err)
	defer closeIt(t, r)
	er, is := r.(tree.ExtentReader)
	if !is {
		t.Fatal("the Reader tells no extents")
	}
	extents, err := er.Extents(t.Context())
	ok(t, "Extents", err)
	if in := holes.Clip(extents); len(in) != 0 {
		t.Errorf("data at %v in the hole %v", in, holes)
	}
	for _, x := range []tree.Extent{{Length: chunk}, {Offset: 3*chunk + chunk/2, Length: chunk / 2}, {Offset: 5 * chunk, Length: chunk}} {
		if diff := cmp.Diff([]tree.Extent{x}, x.Clip(extents)); diff != "" {
			t.Errorf("Extents miss data (-want +got):\n%s", diff)
		}
	}
}

func testAbort(t *testing.T, s tree.Sink, _ Limits) {
	Put(t, s, "f", []byte("old"))
	for _, n := range []int{10, 3 * chunk} {
		data := Data(13, n)
		w := begin(t, s, Upload("f", data))
		write(t, w, Chunks(data)[:1])
		ok(t, "Abort", w.Abort(t.Context()))
		want(t, s, "f", []byte("old"))
		wantNames(t, s, tree.Root, "f")
	}
}
