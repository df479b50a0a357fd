package treetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"transferd/internal/tree"
)

const chunk = tree.MinChunkSize

// Data returns n bytes that compress badly and are the same every time.
func Data(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b) // never fails
	return b
}

// moment is a time with nanoseconds, long ago.
func moment() time.Time { return time.Unix(1_234_567_890, 123_456_789) }

func ptr[T any](v T) *T { return &v }

// Upload describes an upload of data to p.
func Upload(p tree.Path, data []byte) tree.Upload {
	return tree.Upload{
		Path:      p,
		Size:      int64(len(data)),
		Source:    tree.Identity{Size: int64(len(data)), Mtime: moment().UnixNano(), Inode: 7},
		Origin:    "test machine:/source/" + p.Base(),
		ChunkSize: chunk,
		Resume:    true,
	}
}

// Chunks cuts data as an Upload of it is cut.
func Chunks(data []byte) []tree.Chunk {
	size := int64(len(data))
	n := tree.ChunkCount(size, chunk)
	var list []tree.Chunk
	for i := range n {
		x := tree.ChunkExtent(i, size, chunk)
		part := data[x.Offset:x.End()]
		list = append(list, tree.Chunk{Index: i, Data: part, Value: tree.ChunkValue(part, i, chunk, n == 1)})
	}
	return list
}

// FinalOf describes data at its end.
func FinalOf(data []byte) tree.Final {
	f := tree.Final{Size: int64(len(data)), HasDigest: true, Attr: tree.Attr{Perm: ptr(tree.Perm(0o640)), Mtime: ptr(moment())}}
	for _, c := range Chunks(data) {
		f.Values = append(f.Values, c.Value)
	}
	f.Digest = tree.MergeValues(f.Values)
	return f
}

// Put uploads data to p.
func Put(t *testing.T, s tree.Sink, p tree.Path, data []byte) {
	t.Helper()
	send(t, s, Upload(p, data), data)
}

func begin(t *testing.T, s tree.Sink, u tree.Upload) tree.Writer {
	t.Helper()
	w, err := s.Begin(t.Context(), u)
	if err != nil {
		t.Fatalf("Begin(%q) = %v", u.Path, err)
	}
	return w
}

func send(t *testing.T, s tree.Sink, u tree.Upload, data []byte) tree.Receipt {
	t.Helper()
	w := begin(t, s, u)
	chunks := Chunks(data)
	slices.Reverse(chunks) // out of order, and several at once
	write(t, w, chunks)
	return commit(t, w, FinalOf(data))
}

func write(t *testing.T, w tree.Writer, chunks []tree.Chunk) {
	t.Helper()
	var group errgroup.Group
	group.SetLimit(4)
	for _, c := range chunks {
		group.Go(func() error { return w.WriteChunk(t.Context(), c) })
	}
	if err := group.Wait(); err != nil {
		t.Fatalf("WriteChunk = %v", err)
	}
}

func commit(t *testing.T, w tree.Writer, f tree.Final) tree.Receipt {
	t.Helper()
	r, err := w.Commit(t.Context(), f)
	if err != nil {
		t.Fatalf("Commit = %v", err)
	}
	return r
}

// Get reads the file p.
func Get(t *testing.T, s tree.Source, p tree.Path) []byte {
	t.Helper()
	r, err := s.Open(t.Context(), p)
	if err != nil {
		t.Fatalf("Open(%q) = %v", p, err)
	}
	defer closeIt(t, r)
	return readAll(t, r)
}

func readAll(t *testing.T, r tree.Reader) []byte {
	t.Helper()
	e, err := r.Stat(t.Context())
	if err != nil {
		t.Fatalf("Reader.Stat = %v", err)
	}
	data, err := io.ReadAll(io.NewSectionReader(r, 0, e.Size+1))
	if err != nil {
		t.Fatalf("ReadAt of %q = %v", e.Name, err)
	}
	return data
}

func closeIt(t *testing.T, c io.Closer) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
}

// want compares the contents of p.
func want(t *testing.T, s tree.Source, p tree.Path, data []byte) {
	t.Helper()
	if got := Get(t, s, p); !bytes.Equal(got, data) {
		at := 0
		for at < min(len(got), len(data)) && got[at] == data[at] {
			at++
		}
		t.Fatalf("%q has %d bytes, want %d; they differ from byte %d", p, len(got), len(data), at)
	}
}

// wantErr fails unless err is target. A tree with LooseErrors may say anything
// but nil where strict is false.
func wantErr(t *testing.T, l Limits, what string, err, target error) {
	t.Helper()
	loose := slices.ContainsFunc([]error{tree.ErrNotDir, tree.ErrIsDir, tree.ErrNotEmpty, fs.ErrExist}, func(e error) bool { return errors.Is(target, e) })
	if err == nil || (!errors.Is(err, target) && (!loose || !l.LooseErrors)) {
		t.Fatalf("%s = %v, want %v", what, err, target)
	}
}

func ok(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s = %v", what, err)
	}
}

// names lists directory p, sorted.
func names(t *testing.T, s tree.Source, p tree.Path) []string {
	t.Helper()
	list := []string{}
	for e, err := range s.List(t.Context(), p) {
		if err != nil {
			t.Fatalf("List(%q) = %v", p, err)
		}
		list = append(list, e.Name)
	}
	slices.Sort(list)
	return list
}

// wantNames compares the names in directory p: above all, nothing of ours is
// left among them.
func wantNames(t *testing.T, s tree.Source, p tree.Path, want ...string) {
	t.Helper()
	want = append([]string{}, want...)
	slices.Sort(want)
	if diff := cmp.Diff(want, names(t, s, p)); diff != "" {
		t.Fatalf("names in %q (-want +got):\n%s", p, diff)
	}
}

func lstat(t *testing.T, s tree.Source, p tree.Path) tree.Entry {
	t.Helper()
	e, err := s.Lstat(t.Context(), p)
	if err != nil {
		t.Fatalf("Lstat(%q) = %v", p, err)
	}
	return e
}

func wantMtime(t *testing.T, l Limits, e tree.Entry, mtime time.Time) {
	t.Helper()
	if !tree.SameTime(e.Mtime, mtime, max(l.Grain, e.Grain)) {
		t.Errorf("mtime of %q = %v, want %v", e.Name, e.Mtime, mtime)
	}
	if l.Grain <= time.Nanosecond && !e.Mtime.Equal(mtime) {
		t.Errorf("mtime of %q = %v, want exactly %v", e.Name, e.Mtime, mtime)
	}
}

func mkdir(t *testing.T, s tree.Names, p tree.Path) {
	t.Helper()
	ok(t, "Mkdir", s.Mkdir(t.Context(), p, 0o755))
}

func symlink(t *testing.T, s tree.Names, target string, p tree.Path) {
	t.Helper()
	ok(t, "Symlink", s.Symlink(t.Context(), target, p))
}

func have(w tree.Writer) map[int64]tree.Value {
	m := map[int64]tree.Value{}
	for i, v := range w.Have() {
		m[i] = v
	}
	return m
}

func ended(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
