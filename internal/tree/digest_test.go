package tree

import (
	"math/rand/v2"
	"testing"

	"lukechampine.com/blake3"
)

func TestMergedChunksAreTheStandardRoot(t *testing.T) {
	rng := rand.NewChaCha8([32]byte{1})
	const chunk = 64 << 10
	for _, size := range []int{0, 1, 1023, 1024, 1025, 16 << 10, 16<<10 + 1, 17 << 10, chunk - 1, chunk, chunk + 1, 2 * chunk, 3*chunk + 5, 5 * chunk, 7*chunk + 1024, 16*chunk - 1} {
		data := make([]byte, size)
		_, _ = rng.Read(data)
		n := ChunkCount(int64(size), chunk)
		var values []Value
		for i := range n {
			x := ChunkExtent(i, int64(size), chunk)
			values = append(values, ChunkValue(data[x.Offset:x.End()], i, chunk, n == 1))
		}
		if got, want := MergeValues(values), Digest(blake3.Sum256(data)); got != want {
			t.Errorf("MergeValues of %d bytes = %v, want %v", size, got, want)
		}
	}
}

func BenchmarkChunkValue(b *testing.B) {
	data := make([]byte, 1<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		ChunkValue(data, 3, 1<<20, false)
	}
}
