package transport

import (
	"bufio"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// wireBuffer is how much one read or write of the kernel moves at most.
	// x/crypto reads and writes through 4 KiB: with this around the connection
	// a packet costs no system call of its own, which was worth 20 % of speed.
	wireBuffer = 256 << 10

	// flushTimeout bounds how long Close waits for what was written before.
	flushTimeout = time.Second
)

// A wire is a connection that reads ahead and writes what gathers while the
// write before is running. A lone packet is on its way at once: nothing waits
// for more. One goroutine at a time may read; the rest is safe for concurrent
// use. A Write that returned nil may still fail: then the next one tells, as
// with a socket's own buffer.
type wire struct {
	net.Conn // the connection beneath

	in       *bufio.Reader
	received atomic.Int64 // bytes that ever came in
	broken   atomic.Bool  // a read has failed

	mu      sync.Mutex
	change  *sync.Cond // anything below has changed
	pending []byte     // written, not yet taken by the flusher
	closing bool
	err     error // of the flusher

	flushed chan struct{} // closed when the flusher has ended
	once    sync.Once
}

// newWire wraps conn and starts the goroutine that writes; Close ends it.
func newWire(conn net.Conn) *wire {
	w := &wire{
		Conn:    conn,
		pending: make([]byte, 0, wireBuffer),
		flushed: make(chan struct{}),
	}
	w.in = bufio.NewReaderSize(counter{w}, wireBuffer)
	w.change = sync.NewCond(&w.mu)
	go w.flush()
	return w
}

// counter reads from the connection beneath a wire, and counts.
type counter struct{ w *wire }

func (c counter) Read(p []byte) (int, error) {
	n, err := c.w.Conn.Read(p)
	c.w.received.Add(int64(n))
	if err != nil {
		c.w.broken.Store(true)
	}
	return n, err
}

func (w *wire) Read(p []byte) (int, error) { return w.in.Read(p) }

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	written := 0
	for {
		for w.err == nil && !w.closing && len(w.pending) == wireBuffer && len(p) > 0 {
			w.change.Wait()
		}
		switch {
		case w.err != nil:
			return written, w.err
		case w.closing:
			return written, net.ErrClosed
		case len(p) == 0:
			return written, nil
		}
		n := min(len(p), wireBuffer-len(w.pending))
		if len(w.pending) == 0 {
			w.change.Broadcast()
		}
		w.pending = append(w.pending, p[:n]...)
		p = p[n:]
		written += n
	}
}

func (w *wire) flush() {
	defer close(w.flushed)
	spare := make([]byte, 0, wireBuffer)
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		for len(w.pending) == 0 && !w.closing {
			w.change.Wait()
		}
		if len(w.pending) == 0 {
			return
		}
		batch := w.pending
		w.pending = spare[:0]
		w.change.Broadcast()
		w.mu.Unlock()
		_, err := w.Conn.Write(batch)
		w.mu.Lock()
		spare = batch
		if err != nil {
			w.err = err
			w.change.Broadcast()
			return
		}
	}
}

// Close sends what was written, for flushTimeout at most, and closes the
// connection.
func (w *wire) Close() error {
	var err error
	w.once.Do(func() {
		w.mu.Lock()
		w.closing = true
		w.change.Broadcast()
		w.mu.Unlock()
		timer := time.NewTimer(flushTimeout)
		defer timer.Stop()
		select {
		case <-w.flushed:
		case <-timer.C:
		}
		err = w.Conn.Close()
		<-w.flushed
	})
	return err
}

// abort closes the connection at once; what was written may be lost.
func (w *wire) abort() { _ = w.Conn.Close() }
