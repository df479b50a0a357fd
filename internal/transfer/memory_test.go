package transfer

import (
	"fmt"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"

	"transferd/internal/tree"
)

// However large the files and however many: what is held of their contents is
// bounded.
func TestMemoryIsBounded(t *testing.T) {
	b := newDiskBench(t)
	const each = 48 << 20
	for i := range 6 {
		sparseFile(t, filepath.Join(b.src, fmt.Sprintf("d/%d", i)), each, map[int64]string{each - 1: "x"})
	}
	for _, tt := range []struct {
		name string
		set  func(*Options)
	}{
		// Without holes every zero is read, and written.
		{"copy", func(o *Options) { o.NoSparse = true }},
		{"checksum", func(o *Options) { o.Checksum = true; o.NoTargetDir = true }},
	} {
		o := options()
		tt.set(&o)
		var most atomic.Uint64
		look := func(call) fault {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			for was := most.Load(); m.HeapAlloc > was && !most.CompareAndSwap(was, m.HeapAlloc); was = most.Load() {
			}
			return fault{}
		}
		var n atomic.Int64
		b.to.at = func(c call) fault {
			if n.Add(1)%16 == 0 {
				return look(c)
			}
			return fault{}
		}
		b.from.at = b.to.at
		runtime.GC()
		var before runtime.MemStats
		runtime.ReadMemStats(&before)
		b.must(o, "d", "D")
		// The pools may hold as much again, and the collector lags behind.
		if limit := before.HeapAlloc + 4*chunkMemory; most.Load() > limit {
			t.Errorf("%s: the heap grew to %d MiB, want at most %d", tt.name, most.Load()>>20, limit>>20)
		}
	}
}

func TestBuffersAreReused(t *testing.T) {
	var b buffers
	for _, n := range []int64{0, 1, 16<<10 - 1, 16 << 10, 16<<10 + 1, 256 << 10, tree.MinChunkSize, 2*tree.MinChunkSize - 5, tree.MaxChunkSize} {
		p := b.get(n)
		if int64(len(p)) != n || cap(p)%(16<<10) != 0 || cap(p) == 0 {
			t.Errorf("get(%d) has %d bytes of %d", n, len(p), cap(p))
		}
		b.put(p)
	}
}
