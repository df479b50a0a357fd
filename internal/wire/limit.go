package wire

import (
	"net"
	"sync"
	"time"
)

const (
	// slack is how much unused time a Limiter saves up: enough to make good
	// for timers that fire late, and too little for a burst that anyone sees.
	slack = 50 * time.Millisecond

	// turns is into how many pieces a second is cut, so that connections that
	// share a Limiter take turns, and a slow rate flows instead of dripping.
	turns = 50

	maxPiece = 64 << 10 // bytes
)

// A Limiter bounds how many bytes a second pass through all connections that it
// was given to, in each direction for itself. It is safe for concurrent use; nil
// does not limit.
type Limiter struct {
	in, out bucket
	piece   int
}

// NewLimiter returns a Limiter of rate bytes a second; nil if rate is not above 0.
func NewLimiter(rate int64) *Limiter {
	if rate <= 0 {
		return nil
	}
	l := &Limiter{piece: int(min(max(rate/turns, 1), maxPiece))}
	l.in.rate, l.out.rate = float64(rate), float64(rate)
	return l
}

// A bucket hands out times at which bytes may pass.
type bucket struct {
	rate float64 // bytes a second

	mu   sync.Mutex // guards next
	next time.Time  // when the bytes let through so far will have had their time
}

// take books n bytes and returns how long they have to wait.
func (b *bucket) take(n int) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if earliest := now.Add(-slack); b.next.Before(earliest) {
		b.next = earliest
	}
	wait := b.next.Sub(now)
	b.next = b.next.Add(time.Duration(float64(n) / b.rate * float64(time.Second)))
	return wait
}

// Limit returns conn with l in its way. Closing it ends what waits.
func Limit(conn net.Conn, l *Limiter) net.Conn {
	if l == nil {
		return conn
	}
	return &limited{Conn: conn, limiter: l, closed: make(chan struct{})}
}

type limited struct {
	net.Conn

	limiter *Limiter
	once    sync.Once
	closed  chan struct{}
}

// Read implements net.Conn. What was read waits for its time, so that the peer
// is held up by its own window.
func (c *limited) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p[:min(len(p), c.limiter.piece)])
	if n > 0 && !c.pause(c.limiter.in.take(n)) && err == nil {
		err = net.ErrClosed
	}
	return n, err
}

// Write implements net.Conn.
func (c *limited) Write(p []byte) (int, error) {
	written := 0
	for {
		piece := p[written:min(len(p), written+c.limiter.piece)]
		if !c.pause(c.limiter.out.take(len(piece))) {
			return written, net.ErrClosed
		}
		n, err := c.Conn.Write(piece)
		written += n
		if err != nil || written == len(p) {
			return written, err
		}
	}
}

// pause waits for d, and reports whether the connection is still open then.
func (c *limited) pause(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.closed:
		return false
	}
}

// Close implements net.Conn.
func (c *limited) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
