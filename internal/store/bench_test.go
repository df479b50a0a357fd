//go:build linux

package store

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"transferd/internal/tree"
	"transferd/internal/tree/treetest"
)

func benchStore(tb testing.TB) *Store {
	tb.Helper()
	s, err := Open(tb.TempDir(), Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

// TestWriteChunkAllocates: the data of a chunk is handed on, not copied.
func TestWriteChunkAllocates(t *testing.T) {
	s := benchStore(t)
	s.hub.sys.write = func(_ *os.File, p []byte, _ int64) (int, error) { return len(p), nil }
	s.hub.sys.datasync = func(*os.File) error { return nil }
	s.hub.tuning.batchBytes, s.hub.tuning.maxPending = 1<<50, 1<<50
	chunk := treetest.Chunks(treetest.Data(1, mib))[0]
	u := treetest.Upload("f", nil)
	u.Size = 2000 * mib
	u.Sparse = true
	w, err := s.Begin(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	n := testing.AllocsPerRun(500, func() {
		chunk.Index++
		if err := w.WriteChunk(ctx, chunk); err != nil {
			t.Fatal(err)
		}
	})
	if n > 1 {
		t.Errorf("WriteChunk allocates %v times, want at most 1", n)
	}
	if err := w.Abort(ctx); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkWriteChunk(b *testing.B) {
	s := benchStore(b)
	data := treetest.Data(1, mib)
	chunk := treetest.Chunks(data)[0]
	const chunks = 256
	b.SetBytes(chunks * mib)
	for b.Loop() {
		u := treetest.Upload("f", data)
		u.Size, u.Resume = chunks*mib, false
		w, err := s.Begin(b.Context(), u)
		if err != nil {
			b.Fatal(err)
		}
		f := tree.Final{Size: u.Size}
		for i := range int64(chunks) {
			chunk.Index = i
			if err := w.WriteChunk(b.Context(), chunk); err != nil {
				b.Fatal(err)
			}
			f.Values = append(f.Values, chunk.Value)
		}
		if _, err := w.Commit(b.Context(), f); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSmallFiles copies files of 4 KiB, several at once.
func BenchmarkSmallFiles(b *testing.B) {
	for _, fsync := range []tree.Fsync{tree.FsyncAuto, tree.FsyncOff} {
		for _, workers := range []int{1, 8, 32} {
			b.Run(fmt.Sprintf("fsync=%d/workers=%d", fsync, workers), func(b *testing.B) {
				s := benchStore(b)
				data := treetest.Data(1, 4096)
				chunks, final := treetest.Chunks(data), treetest.FinalOf(data)
				var n int
				var mu sync.Mutex
				var wg sync.WaitGroup
				b.ResetTimer()
				for range workers {
					wg.Go(func() {
						for {
							mu.Lock()
							i := n
							n++
							mu.Unlock()
							if i >= b.N {
								return
							}
							u := treetest.Upload(tree.Path(fmt.Sprintf("f%d", i)), data)
							u.Fsync = fsync
							w, err := s.Begin(b.Context(), u)
							if err == nil {
								err = w.WriteChunk(b.Context(), chunks[0])
							}
							if err == nil {
								_, err = w.Commit(b.Context(), final)
							}
							if err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
			})
		}
	}
}

func BenchmarkLstat(b *testing.B) {
	for _, how := range []string{"openat2", "os.Root"} {
		for _, depth := range []int{1, 8} {
			b.Run(fmt.Sprintf("%s/depth=%d", how, depth), func(b *testing.B) {
				s := benchStore(b)
				if how == "os.Root" {
					lacking(s, "openat2")
				}
				p := tree.Path("d")
				for range depth {
					if err := s.Mkdir(b.Context(), p, 0o755); err != nil {
						b.Fatal(err)
					}
					p = p.Join("d")
				}
				p = tree.Path(strings.TrimSuffix(p.String(), "/d"))
				for b.Loop() {
					if _, err := s.Lstat(b.Context(), p); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkPut gives files of 4 KiB, several at once, into directories of a
// thousand.
func BenchmarkPut(b *testing.B) {
	for _, fsync := range []tree.Fsync{tree.FsyncAuto, tree.FsyncOff} {
		for _, workers := range []int{1, 8, 64, 512} {
			b.Run(fmt.Sprintf("fsync=%d/workers=%d", fsync, workers), func(b *testing.B) {
				s := benchStore(b)
				data := treetest.Data(1, 4096)
				small := treetest.Small("f", data)
				small.Fsync = fsync
				b.ReportAllocs()
				var n atomic.Int64
				var wg sync.WaitGroup
				for i := range b.N/1000 + 1 {
					if err := s.Mkdir(b.Context(), tree.Path(fmt.Sprintf("d%d", i)), 0o755); err != nil {
						b.Fatal(err)
					}
				}
				b.ResetTimer()
				before := cpuTime(b)
				for range workers {
					wg.Go(func() {
						for {
							i := n.Add(1) - 1
							if i >= int64(b.N) {
								return
							}
							f := small
							f.Path = tree.Path(fmt.Sprintf("d%d/f%d", i/1000, i))
							if _, err := s.Put(b.Context(), f); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
			})
		}
	}
}

func BenchmarkGet(b *testing.B) {
	s := benchStore(b)
	if _, err := s.Put(b.Context(), treetest.Small("f", treetest.Data(1, 4096))); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Get(b.Context(), "f", 1<<20); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLargeFile uploads 1 GiB in chunks of 4 MiB, several at once, and
// tells what it costs both in the program and in the system.
func BenchmarkLargeFile(b *testing.B) {
	const size, chunks = 4 * mib, 256
	data := treetest.Data(1, size)
	value := tree.ChunkValue(data, 0, size, false)
	f := tree.Final{Size: chunks * size, Values: slices.Repeat([]tree.Value{value}, chunks)}
	for _, workers := range []int{1, 4} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			s := benchStore(b)
			b.SetBytes(chunks * size)
			var used time.Duration
			for b.Loop() {
				before := cpuTime(b)
				w, err := s.Begin(b.Context(), tree.Upload{Path: "f", Size: f.Size, ChunkSize: size, Origin: "m:/f"})
				if err != nil {
					b.Fatal(err)
				}
				var next atomic.Int64
				var group sync.WaitGroup
				for range workers {
					group.Go(func() {
						for i := next.Add(1) - 1; i < chunks; i = next.Add(1) - 1 {
							if err := w.WriteChunk(b.Context(), tree.Chunk{Index: i, Data: data, Value: value}); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				group.Wait()
				if _, err := w.Commit(b.Context(), f); err != nil {
					b.Fatal(err)
				}
				used += cpuTime(b) - before
				if err := s.Remove(b.Context(), "f"); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(used.Seconds()/float64(b.N), "cpu-s/GiB")
		})
	}
}

// cpuTime is what this process has used so far.
func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
