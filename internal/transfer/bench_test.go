package transfer

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"transferd/internal/store"
	"transferd/internal/tree"
)

// void is a server that takes small files and keeps none.
type void struct {
	tree.Sink
	made *atomic.Bool // the directory of the copy
}

func (void) Transport() string { return "tcp" }

func (void) PutLimit(context.Context) (int64, error) { return 256 << 10, nil }

func (void) Put(context.Context, tree.Small) (tree.Receipt, error) {
	return tree.Receipt{Verified: tree.VerifiedDigest}, nil
}

func (v void) Stat(_ context.Context, p tree.Path) (tree.Entry, error) {
	if p == "new" && !v.made.Load() {
		return tree.Entry{}, fs.ErrNotExist
	}
	return tree.Entry{Kind: tree.KindDir, Perm: 0o755, Name: p.Base()}, nil
}

func (void) Lstat(context.Context, tree.Path) (tree.Entry, error) {
	return tree.Entry{}, fs.ErrNotExist
}

func (void) Mkdir(context.Context, tree.Path, tree.Perm) error   { return nil }
func (void) SetAttr(context.Context, tree.Path, tree.Attr) error { return nil }
func (void) Remove(context.Context, tree.Path) error             { return nil }

func (v void) Rename(context.Context, tree.Path, tree.Path, tree.RenameMode) error {
	v.made.Store(true)
	return nil
}

func (void) Begin(context.Context, tree.Upload) (tree.Writer, error) { return voidWriter{}, nil }

type voidWriter struct{ tree.Writer }

func (voidWriter) WriteChunk(context.Context, tree.Chunk) error { return nil }
func (voidWriter) Commit(context.Context, tree.Final) (tree.Receipt, error) {
	return tree.Receipt{}, nil
}

// BenchmarkSmallFiles uploads 10,000 files of 4 KiB from a disk in memory to a
// server that answers at once: what the engine and the reading cost.
func BenchmarkSmallFiles(b *testing.B) {
	const files = 10_000
	dir, err := os.MkdirTemp("/dev/shm", "transfer-bench-") //nolint:usetesting // not where b.TempDir is
	if err != nil {
		b.Skip(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	data := bytesOf(1, 4096)
	for i := range files {
		if i%100 == 0 {
			if err := os.MkdirAll(filepath.Join(dir, fmt.Sprint(i/100)), 0o755); err != nil {
				b.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i/100), fmt.Sprintf("file%05d", i)), data, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	s, err := store.Open(dir, store.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	o := options()
	o.Events = func(Event) {}
	for b.Loop() {
		sum, err := Copy(b.Context(), Place{Tree: void{made: &atomic.Bool{}}, Path: "new", Label: "new", Host: "h"},
			[]Place{{Tree: s, Path: tree.Root, Label: "src"}}, o)
		if err != nil || sum.Files != files {
			b.Fatal(sum, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/files, "µs/file")
}
