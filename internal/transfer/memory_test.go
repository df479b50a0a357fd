package transfer

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
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

// A directory of any size is copied while it is listed. What is left of it in
// the end are its names, in case the connection breaks in the middle.
func TestHugeDirectoryIsNotHeld(t *testing.T) {
	const files = 150_000
	from := &slow{dirs: 1, files: files, size: 1}
	to := &measured{void: void{made: &atomic.Bool{}}}
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	sum, err := Copy(t.Context(), place(to, "to", "new"), []Place{place(from, "from", ".")}, options())
	if err != nil || sum.Files != files {
		t.Fatalf("copy = %+v, %v", sum, err)
	}
	// Half an entry each would be more.
	if limit := before.HeapAlloc + files*100; to.most > limit {
		t.Errorf("the heap grew to %d KiB, want at most %d", to.most>>10, limit>>10)
	}
}

// measured looks at the memory now and then.
type measured struct {
	void
	puts atomic.Int64
	mu   sync.Mutex // guards most
	most uint64
}

func (m *measured) Put(ctx context.Context, s tree.Small) (tree.Receipt, error) {
	if n := m.puts.Add(1); n%30_000 == 0 {
		var stats runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&stats)
		m.mu.Lock()
		m.most = max(m.most, stats.HeapAlloc)
		m.mu.Unlock()
	}
	return m.void.Put(ctx, s)
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
