package native

import (
	"math/bits"
	"slices"
	"sync"

	"transferd/protocol"
)

const (
	// poolBytes is the memory for chunks of all sessions of a server, and
	// shareBytes the most of it that one session has.
	poolBytes  = 64 << 20
	shareBytes = 32 << 20

	// leastBuffer is the smallest buffer.
	leastBuffer = 64 << 10
)

// A chunkPool bounds the memory that chunks take until they are written. Who
// waits gets his in order of coming, with one exception: a session that has
// nothing gets one buffer at once, whatever the others hold. So none can be kept
// from going on by others whose chunks never end or whose disks hang, and the
// memory is bounded by poolBytes and one chunk for each session. Make it with
// newChunkPool.
type chunkPool struct {
	memory [8]sync.Pool // *[]byte of leastBuffer << index

	mu      sync.Mutex
	free    int64 // below 0 by what the exceptions hold
	waiting []*poolWait
}

// A poolShare is what one session holds of a pool.
type poolShare struct {
	pool *chunkPool
	held int64 // guarded by pool.mu
}

// A poolWait is somebody who waits for n bytes.
type poolWait struct {
	share *poolShare
	n     int64
	ready chan struct{} // closed when they are his
}

func newChunkPool(size int64) *chunkPool { return &chunkPool{free: size} }

func (p *chunkPool) share() *poolShare { return &poolShare{pool: p} }

// class returns which buffers have room for n bytes, and how much they have.
func class(n int64) (index int, size int64) {
	index = bits.Len64(uint64(max(n, leastBuffer)-1) / leastBuffer)
	return index, leastBuffer << index
}

// get returns a buffer of at least n bytes, at most MaxChunk, with anything in
// it. It waits while there is none, until one of the channels is closed: then it
// returns nil. put gives it back.
func (s *poolShare) get(n int64, dead, gone <-chan struct{}) []byte {
	index, size := class(min(n, protocol.MaxChunk))
	if !s.reserve(size, dead, gone) {
		return nil
	}
	if b, ok := s.pool.memory[index].Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, size)
}

// put takes back what get returned.
func (s *poolShare) put(b []byte) {
	index, size := class(int64(cap(b)))
	b = b[:size]
	s.pool.memory[index].Put(&b)
	s.release(size)
}

// reserve waits for n bytes, and reports whether they are there.
func (s *poolShare) reserve(n int64, dead, gone <-chan struct{}) bool {
	p := s.pool
	p.mu.Lock()
	if s.held == 0 || (len(p.waiting) == 0 && p.fits(s, n)) {
		p.take(s, n)
		p.mu.Unlock()
		return true
	}
	w := &poolWait{share: s, n: n, ready: make(chan struct{})}
	p.waiting = append(p.waiting, w)
	p.serve() // those in front may all wait for their own share
	p.mu.Unlock()
	select {
	case <-w.ready:
		return true
	case <-dead:
	case <-gone:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.waiting, w); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
		p.serve()
		return false
	}
	p.give(s, n) // it came at the same moment
	return false
}

func (s *poolShare) release(n int64) {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	s.pool.give(s, n)
}

// starved reports whether somebody of the session waits for memory.
func (s *poolShare) starved() bool {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	return slices.ContainsFunc(s.pool.waiting, func(w *poolWait) bool { return w.share == s })
}

// The methods below are called with mu held.

func (p *chunkPool) fits(s *poolShare, n int64) bool {
	return p.free >= n && s.held+n <= shareBytes
}

func (p *chunkPool) take(s *poolShare, n int64) {
	p.free -= n
	s.held += n
}

func (p *chunkPool) give(s *poolShare, n int64) {
	p.free += n
	s.held -= n
	p.serve()
}

// serve lets in who can go on. Who waits for his own session keeps nobody else
// waiting; who waits for the pool keeps those behind him.
func (p *chunkPool) serve() {
	full := false
	p.waiting = slices.DeleteFunc(p.waiting, func(w *poolWait) bool {
		switch {
		case w.share.held == 0:
		case w.share.held+w.n > shareBytes:
			return false
		case full || p.free < w.n:
			full = true
			return false
		}
		p.take(w.share, w.n)
		close(w.ready)
		return true
	})
}

// A window counts bytes that were sent and have not been answered. The zero
// value allows nothing.
type window struct {
	mu    sync.Mutex
	limit int64
	used  int64
}

// take counts n bytes more, unless that is too much.
func (w *window) take(n int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.used+n > w.limit {
		return false
	}
	w.used += n
	return true
}

// give takes back what was counted.
func (w *window) give(n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.used -= n
}

// widen changes the limit.
func (w *window) widen(limit int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.limit = limit
}
