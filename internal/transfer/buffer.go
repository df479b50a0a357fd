package transfer

import (
	"sync"
)

// buffers recycles the memory of chunks and small files.
type buffers struct{ pools [bufferClasses]sync.Pool }

const (
	// smallestBuffer is the least capacity: hashing works in place on it.
	smallestBuffer = 16 << 10

	// bufferClasses are capacities of powers of two from that on, up to
	// tree.MaxChunkSize.
	bufferClasses = 9
)

// get returns n bytes of any content.
func (b *buffers) get(n int64) []byte {
	size, class := int64(smallestBuffer), 0
	for size < n && class < bufferClasses-1 {
		size, class = size*2, class+1
	}
	if p, ok := b.pools[class].Get().(*[]byte); ok {
		return (*p)[:n]
	}
	return make([]byte, max(size, n))[:n]
}

// put gives a buffer back; the caller keeps no reference.
func (b *buffers) put(p []byte) {
	for class, size := 0, smallestBuffer; class < bufferClasses; class, size = class+1, size*2 {
		if cap(p) == size {
			p = p[:0]
			b.pools[class].Put(&p)
		}
	}
}
