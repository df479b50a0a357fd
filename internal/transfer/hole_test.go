//go:build unix

package transfer

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"transferd/internal/tree"
)

// blocks returns how many bytes of the disk the file at path takes.
func blocks(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatal("no stat of Unix")
	}
	return st.Blocks * 512
}

func TestHolesStayHoles(t *testing.T) {
	for _, end := range ends {
		for _, tt := range []struct {
			name string
			size int64
			data map[int64]string
		}{
			{"all hole", 5 * mib, nil},
			{"small and all hole", 100_000, nil},
			{"one byte less than a chunk", mib - 1, nil},
			{"data at the end", 5*mib + 1, map[int64]string{5 * mib: "x"}},
			{"hole at the end", 5*mib + 17, map[int64]string{0: "x"}},
			{"hole inside a chunk", 2 * mib, map[int64]string{100_000: "x", 2*mib - 1: "y"}},
			{"data across chunks", 4 * mib, map[int64]string{2*mib - 2: "xxxx"}},
		} {
			b := newBench(t).as(end)
			src := filepath.Join(b.src, "f")
			sparseFile(t, src, tt.size, tt.data)
			sum := b.must(options(), "f", "f")
			b.wantDone(read(t, b.src, "f"))
			if got, want := blocks(t, filepath.Join(b.dst, "f")), blocks(t, src); got > want+8192 {
				t.Errorf("%s, %s: the copy takes %d bytes of the disk, the source %d", end.name, tt.name, got, want)
			}
			if sum.Sent > 16384 {
				t.Errorf("%s, %s: sent %d bytes", end.name, tt.name, sum.Sent)
			}
			b.wantExactEvents()
			e := told[Finished](&b.log)[0]
			if want, err := Sum(t.Context(), place(b.source, "", "f")); err != nil || !e.HasDigest || e.Digest != want {
				t.Errorf("%s, %s: digest %v %v, want %v, %v", end.name, tt.name, e.HasDigest, e.Digest, want, err)
			}
		}
	}
}

func TestNoSparseWritesZeros(t *testing.T) {
	b := newBench(t)
	sparseFile(t, filepath.Join(b.src, "f"), 3*mib, nil)
	o := options()
	o.NoSparse = true
	if sum := b.must(o, "f", "f"); sum.Sent != 3*mib {
		t.Errorf("sent %d, want everything", sum.Sent)
	}
	b.wantDone(make([]byte, 3*mib))
	if got := blocks(t, filepath.Join(b.dst, "f")); got < 3*mib {
		t.Errorf("the copy takes %d bytes of the disk, want all", got)
	}
}

// What a source holds no longer must not come back out of a partial, whether the
// journal knows of it or not.
func TestHolesOfAChangedSourceOverADirtyPartial(t *testing.T) {
	for _, tt := range []struct {
		name     string
		recorded func(chunk int) bool // of the first four chunks, written from the old source
	}{
		{"recorded", func(int) bool { return true }},
		{"one recorded", func(i int) bool { return i == 0 }},
		{"others recorded", func(i int) bool { return i == 3 }},
		{"none recorded", func(int) bool { return false }},
	} {
		for _, end := range ends {
			for _, verify := range []tree.Verify{tree.VerifyFast, tree.VerifyFull} {
				t.Logf("%s, %s, verify %d", tt.name, end.name, verify) // shown if it fails
				b := newBench(t).as(end)
				old := bytesOf(7, 6*mib)
				write(t, b.src, "f", old)
				o := options()
				o.Verify = verify
				leave(t, b, o, old, tt.recorded)
				if err := os.Remove(filepath.Join(b.src, "f")); err != nil {
					t.Fatal(err)
				}
				// The same size, so that everything on record is looked at.
				sparseFile(t, filepath.Join(b.src, "f"), 6*mib, map[int64]string{3*mib + 5000: "data", 5*mib - 4: "more data"})
				if err := os.Chtimes(filepath.Join(b.src, "f"), moment(9), moment(9)); err != nil {
					t.Fatal(err)
				}
				b.must(o, "f", "f")
				b.wantDone(read(t, b.src, "f"))
				b.wantExactEvents()
			}
		}
	}
}

// leave makes a partial with four chunks of data in it, of which recorded says
// which the journal knows. It is what a killed copy of f leaves.
func leave(t *testing.T, b *bench, o Options, data []byte, recorded func(int) bool) {
	t.Helper()
	e, err := b.source.Stat(t.Context(), "f")
	if err != nil {
		t.Fatal(err)
	}
	src := place(b.source, "source", "f")
	u := tree.Upload{
		Path: "f", Size: e.Size, Source: e.Identity(), Origin: src.origin(o.Machine, "f"),
		ChunkSize: tree.ChunkSizeFor(e.Size), Resume: true, Fsync: o.Fsync,
	}
	w, err := b.sink.Begin(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		x := tree.ChunkExtent(int64(i), u.Size, u.ChunkSize)
		part := data[x.Offset:x.End()]
		c := tree.Chunk{Index: int64(i), Data: part, Value: tree.ChunkValue(part, int64(i), u.ChunkSize, false)}
		if recorded(i) {
			if err := w.WriteChunk(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
	}
	// The rest arrives, and the machine dies before it is recorded.
	found, err := filepath.Glob(filepath.Join(b.dst, ".transfer-*.part"))
	if err != nil || len(found) != 1 {
		t.Fatalf("partials %q, %v", found, err)
	}
	f, err := os.OpenFile(found[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		if i < 4 && recorded(i) {
			continue
		}
		if _, err := f.WriteAt(data[i*mib:(i+1)*mib], int64(i)*mib); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.Close(), w.Suspend(t.Context())); err != nil {
		t.Fatal(err)
	}
	b.heal()
}

// Too many zeros to hash: the file is right all the same, and says that it has
// no digest.
func TestBigSparseFile(t *testing.T) {
	b := newBench(t)
	const size = 40 << 30
	sparseFile(t, filepath.Join(b.src, "f"), size, map[int64]string{7: "near", size - 4: "far!"})
	sum := b.must(options(), "f", "f")
	if sum.Sent > 64<<10 {
		t.Errorf("sent %d bytes", sum.Sent)
	}
	e := told[Finished](&b.log)[0]
	if e.HasDigest || e.Size != size || e.Verified == "" {
		t.Errorf("finished %+v, want no digest", e)
	}
	b.wantExactEvents()
	f, err := os.Open(filepath.Join(b.dst, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for at, want := range map[int64]string{0: "\x00", 7: "near", 12: "\x00\x00", size - 4: "far!"} {
		got := make([]byte, len(want))
		if _, err := f.ReadAt(got, at); err != nil || string(got) != want {
			t.Errorf("at %d: %q, %v, want %q", at, got, err, want)
		}
	}
	if info, err := f.Stat(); err != nil || info.Size() != size || blocks(t, f.Name()) > mib {
		t.Errorf("the copy has %v bytes, %d on the disk", info.Size(), blocks(t, f.Name()))
	}
}

func TestResumeOfASparseFile(t *testing.T) {
	for _, end := range ends {
		b := newBench(t).as(end)
		sparseFile(t, filepath.Join(b.src, "f"), 20*mib+3, map[int64]string{
			mib: "a", 3*mib + 9: "b", 5 * mib: "c", 11 * mib: "d", 20 * mib: "e",
		})
		b.breakOff(options(), 3)
		b.must(options(), "f", "f")
		b.wantDone(read(t, b.src, "f"))
		b.wantExactEvents()
	}
}

func TestAnInventedSizeIsRefused(t *testing.T) {
	for _, size := range []int64{1 << 62, 1<<63 - 1, -1} {
		b := newBench(t).remote(true, false)
		write(t, b.src, "f", []byte("small"))
		src := place(sized{b.source, size}, "source", "f")
		o := options()
		_, err := Copy(t.Context(), place(b.sink, "", "f"), []Place{src}, o)
		if partial := new(PartialError); !errors.As(err, &partial) {
			t.Errorf("copy of a file of %d bytes = %v, want that it fails", size, err)
		}
	}
}
