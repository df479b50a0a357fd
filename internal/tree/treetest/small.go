package treetest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"golang.org/x/sync/errgroup"

	"transferd/internal/tree"
)

// Small describes data as a small file p.
func Small(p tree.Path, data []byte) tree.Small {
	f := FinalOf(data)
	return tree.Small{Path: p, Data: data, Digest: f.Digest, Origin: "test machine:/source/" + p.Base(), Attr: f.Attr}
}

// putter returns s as a Putter, and the most that it takes; nil if it is none.
func putter(t *testing.T, s tree.Sink) (tree.Putter, int64) {
	t.Helper()
	p, is := s.(tree.Putter)
	if !is {
		return nil, 0
	}
	limit, err := p.PutLimit(t.Context())
	ok(t, "PutLimit", err)
	if limit == 0 {
		return nil, 0
	}
	return p, limit
}

func testPut(t *testing.T, s tree.Sink, l Limits) {
	p, limit := putter(t, s)
	if p == nil {
		return
	}
	for _, n := range []int64{0, 1, 4096, 100_000, limit} {
		data := Data(byte(n), int(n))
		for _, fsync := range []tree.Fsync{tree.FsyncAuto, tree.FsyncAlways, tree.FsyncOff} {
			small := Small("f", data)
			small.Fsync = fsync
			r, err := p.Put(t.Context(), small)
			ok(t, "Put", err)
			if r.Verified == "" || (r.Volatile != (fsync == tree.FsyncOff) && !l.VolatileSync) {
				t.Errorf("Receipt of %d bytes with fsync %d = %+v", n, fsync, r)
			}
			want(t, s, "f", data)
			e := lstat(t, s, "f")
			if e.Perm != 0o640 {
				t.Errorf("perm = %o, want 640", e.Perm)
			}
			wantMtime(t, l, e, moment())
			wantNames(t, s, tree.Root, "f")
		}
		ok(t, "Remove", s.Remove(t.Context(), "f"))
	}
	_, err := p.Put(t.Context(), Small("f", make([]byte, limit+1)))
	wantErr(t, l, "Put of more than the limit", err, errors.ErrUnsupported)
	wantNames(t, s, tree.Root)
}

func testPutErrors(t *testing.T, s tree.Sink, l Limits) {
	p, _ := putter(t, s)
	if p == nil {
		return
	}
	mkdir(t, s, "d")
	put(t, p, Small("f", []byte("old")))
	wrong := Small("f", []byte("right"))
	wrong.Data = []byte("wrong")
	free := Small("new", wrong.Data)
	free.Digest = wrong.Digest
	only := Small("f", []byte("new"))
	only.NoReplace = true
	for _, test := range []struct {
		name string
		f    tree.Small
		err  error
	}{
		{"other bytes than the digest says", wrong, tree.ErrIntegrity},
		{"other bytes, free name", free, tree.ErrIntegrity},
		{"a taken name with NoReplace", only, fs.ErrExist},
		{"no parent", Small("no/f", nil), fs.ErrNotExist},
		{"a file as parent", Small("f/f", nil), tree.ErrNotDir},
		{"a directory", Small("d", []byte("x")), tree.ErrIsDir},
		{"the root", Small(tree.Root, []byte("x")), tree.ErrIsDir},
	} {
		_, err := p.Put(t.Context(), test.f)
		wantErr(t, l, "Put of "+test.name, err, test.err)
	}
	if _, err := p.Put(ended(t), Small("f", nil)); err == nil {
		t.Error("Put ignores an ended context")
	}
	want(t, s, "f", []byte("old"))
	wantNames(t, s, tree.Root, "d", "f")
	wantNames(t, s, "d")
}

func testPutReplaces(t *testing.T, s tree.Sink, _ Limits) {
	p, _ := putter(t, s)
	if p == nil {
		return
	}
	put(t, p, Small("f", []byte("old")))
	r, err := s.Open(t.Context(), "f")
	ok(t, "Open", err)
	defer closeIt(t, r)
	old := lstat(t, s, "f")
	put(t, p, Small("f", []byte("newer")))
	want(t, s, "f", []byte("newer"))
	if got := readAll(t, r); string(got) != "old" {
		t.Errorf("the old file reads %q while it is replaced, want old", got)
	}
	if e := lstat(t, s, "f"); e.Inode != 0 && e.Inode == old.Inode {
		t.Error("Put wrote into the old file")
	}
	old = lstat(t, s, "f")
	in := Small("f", []byte("in place"))
	in.InPlace = true
	put(t, p, in)
	want(t, s, "f", in.Data)
	if e := lstat(t, s, "f"); e.Inode != old.Inode {
		t.Errorf("InPlace changed the inode from %d to %d", old.Inode, e.Inode)
	}
	full := Small("f", []byte("read back"))
	full.Verify = tree.VerifyFull
	if r := put(t, p, full); r.Verified != tree.VerifiedFull {
		t.Errorf("Receipt.Verified = %q, want full", r.Verified)
	}
	want(t, s, "f", full.Data)
	keep := Small("f", []byte("keeps the mode"))
	keep.Attr.Perm = nil
	ok(t, "SetAttr", s.SetAttr(t.Context(), "f", tree.Attr{Perm: ptr(tree.Perm(0o751))}))
	put(t, p, keep)
	if e := lstat(t, s, "f"); e.Perm != 0o751 {
		t.Errorf("perm without Attr.Perm = %o, want that of the old file, 751", e.Perm)
	}
	wantNames(t, s, tree.Root, "f")
}

// testPutAfterUpload: what a larger version of the source left is gone with the
// small one that follows.
func testPutAfterUpload(t *testing.T, s tree.Sink, l Limits) {
	p, _ := putter(t, s)
	if p == nil {
		return
	}
	large := Data(20, 3*chunk)
	w := begin(t, s, Upload("f", large))
	write(t, w, Chunks(large)[:2])
	ok(t, "Suspend", w.Suspend(t.Context()))
	small := Small("f", []byte("small"))
	small.Origin = Upload("f", nil).Origin
	put(t, p, small)
	want(t, s, "f", small.Data)
	wantNames(t, s, tree.Root, "f")
	if l.NoResume {
		return
	}
	w = begin(t, s, Upload("f", large))
	write(t, w, Chunks(large)[:2])
	put(t, p, small)
	err := w.WriteChunk(t.Context(), Chunks(large)[2])
	if err == nil { // a tree that is far away may hear of it later
		_, err = w.Commit(t.Context(), FinalOf(large))
	} else {
		_ = w.Suspend(t.Context()) // it has been ended
	}
	if !errors.Is(err, tree.ErrTakenOver) {
		t.Errorf("WriteChunk or Commit after a Put of the same source = %v, want ErrTakenOver", err)
	}
	want(t, s, "f", small.Data)
	wantNames(t, s, tree.Root, "f")
}

func testPutMany(t *testing.T, s tree.Sink, _ Limits) {
	p, _ := putter(t, s)
	if p == nil {
		return
	}
	const dirs, each = 6, 40
	var group errgroup.Group
	for d := range dirs {
		dir := tree.Path(fmt.Sprintf("d%d", d))
		mkdir(t, s, dir)
		for i := range each {
			group.Go(func() error {
				_, err := p.Put(t.Context(), Small(dir.Join(fmt.Sprintf("f%d", i)), Data(byte(i), 100*i)))
				return err
			})
		}
	}
	for i := range 20 { // one name: the last wins whole
		group.Go(func() error {
			f := Small("same", bytes.Repeat([]byte{byte(i)}, 5000))
			f.Origin += fmt.Sprint(i) // one would take over the other
			_, err := p.Put(t.Context(), f)
			return err
		})
	}
	ok(t, "Put of many", group.Wait())
	for d := range dirs {
		for i := range each {
			want(t, s, tree.Path(fmt.Sprintf("d%d/f%d", d, i)), Data(byte(i), 100*i))
		}
	}
	same := Get(t, s, "same")
	if len(same) != 5000 || !bytes.Equal(same, bytes.Repeat(same[:1], 5000)) {
		t.Error("a file that was put several times at once is none of its versions")
	}
	ok(t, "Rename", s.Rename(t.Context(), "d0", "moved", tree.RenameReplace))
	mkdir(t, s, "d0")
	put(t, p, Small("d0/new", []byte("new")))
	wantNames(t, s, "d0", "new")
	ok(t, "Remove", s.Remove(t.Context(), "d0/new"))
	ok(t, "Remove", s.Remove(t.Context(), "d0"))
	if _, err := p.Put(t.Context(), Small("d0/new", nil)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Put into a directory that was removed = %v, want fs.ErrNotExist", err)
	}
}

func put(t *testing.T, p tree.Putter, f tree.Small) tree.Receipt {
	t.Helper()
	r, err := p.Put(t.Context(), f)
	if err != nil {
		t.Fatalf("Put(%q) = %v", f.Path, err)
	}
	return r
}

func testGet(t *testing.T, s tree.Sink, l Limits) {
	g, is := s.(tree.Getter)
	if !is {
		return
	}
	limit, err := g.GetLimit(t.Context())
	ok(t, "GetLimit", err)
	if limit == 0 {
		return
	}
	mkdir(t, s, "d")
	symlink(t, s, "d/f", "link")
	for _, n := range []int64{0, 1, 4096, 100_000, limit} {
		data := Data(byte(n), int(n))
		Put(t, s, "d/f", data)
		for _, p := range []tree.Path{"d/f", "link"} {
			got, err := g.Get(t.Context(), p, limit)
			ok(t, "Get", err)
			if !bytes.Equal(got.Data, data) || got.Digest != FinalOf(data).Digest {
				t.Errorf("Get(%q) of %d bytes has others, or another digest", p, n)
			}
			if e := got.Entry; e.Kind != tree.KindFile || e.Size != n || e.Perm != 0o640 {
				t.Errorf("Get(%q) tells of %+v", p, e)
			}
			wantMtime(t, l, got.Entry, moment())
		}
	}
	for _, test := range []struct {
		p     tree.Path
		limit int64
		err   error
	}{
		{"d/f", limit - 1, errors.ErrUnsupported},
		{"d/f", 0, errors.ErrUnsupported},
		{"no", limit, fs.ErrNotExist},
		{"d/no", limit, fs.ErrNotExist},
		{"d/f/no", limit, tree.ErrNotDir},
		{"d", limit, tree.ErrNotRegular},
		{tree.Root, limit, tree.ErrNotRegular},
	} {
		_, err := g.Get(t.Context(), test.p, test.limit)
		wantErr(t, l, fmt.Sprintf("Get(%q, %d)", test.p, test.limit), err, test.err)
	}
	if _, err := g.Get(ended(t), "d/f", limit); err == nil {
		t.Error("Get ignores an ended context")
	}
}
