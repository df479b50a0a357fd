package transfer

import (
	"sync"

	"transferd/internal/tree"
)

// buffers recycles the memory of large chunks; small ones are cheap to make.
type buffers struct{ pools [3]sync.Pool }

const smallBuffer = 64 << 10

// get returns n bytes of any content. Capacity is rounded up so that hashing
// works in place.
func (b *buffers) get(n int64) []byte {
	if n <= smallBuffer {
		return make([]byte, n, (n+16<<10-1)&^(16<<10-1))
	}
	size, class := int64(tree.MinChunkSize), 0
	for size < n && class < len(b.pools)-1 {
		size, class = size*2, class+1
	}
	if p, ok := b.pools[class].Get().(*[]byte); ok {
		return (*p)[:n]
	}
	return make([]byte, size)[:n]
}

// put gives a buffer back; the caller keeps no reference.
func (b *buffers) put(p []byte) {
	for class, size := 0, tree.MinChunkSize; class < len(b.pools); class, size = class+1, size*2 {
		if cap(p) == size {
			p = p[:0]
			b.pools[class].Put(&p)
		}
	}
}
