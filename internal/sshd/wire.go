package sshd

import (
	"bufio"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// readBuffer is what is read from the kernel at a time. x/crypto reads
	// through 4 KiB; with this it moves 13 % more on 10 % less CPU.
	readBuffer = 256 << 10

	// writeBuffer is how much may wait to be written. x/crypto writes every
	// packet in two pieces; writing what has gathered meanwhile in one piece
	// moves another 10 %.
	writeBuffer = 128 << 10

	// closeGrace is how long Close goes on writing what it was given.
	closeGrace = time.Second
)

// A wire is the network connection below SSH, with buffers of a better size
// and a memory of when the peer was last heard. One goroutine may read, any may
// write. A writing goroutine of its own runs until Close, or an error; done
// tells when it and the connection are gone.
type wire struct {
	net.Conn
	done chan struct{}

	large atomic.Pointer[bufio.Reader] // nil while unknown peers could fill memory with it
	heard *moment                      // of the last byte read

	mu      sync.Mutex
	change  *sync.Cond
	pending []byte // not yet handed to the kernel
	spare   []byte // the other of the two buffers
	err     error  // of writing; it stays
	closed  bool
}

func newWire(conn net.Conn) *wire {
	w := &wire{Conn: conn, done: make(chan struct{}), heard: newMoment()}
	w.change = sync.NewCond(&w.mu)
	go w.flush()
	return w
}

// trust gives the reader its large buffer and takes the deadlines away: the
// peer is logged in.
func (w *wire) trust() error {
	w.large.Store(bufio.NewReaderSize(w.Conn, readBuffer))
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return net.ErrClosed
	}
	return w.SetDeadline(time.Time{})
}

// Read implements net.Conn.
func (w *wire) Read(p []byte) (n int, err error) {
	if large := w.large.Load(); large != nil {
		n, err = large.Read(p)
	} else {
		n, err = w.Conn.Read(p)
	}
	if n > 0 {
		w.heard.now()
	}
	return n, err
}

// Write takes p to be written soon. An error belongs to an earlier call.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.pending) >= writeBuffer && w.err == nil && !w.closed {
		w.change.Wait()
	}
	switch {
	case w.err != nil:
		return 0, w.err
	case w.closed:
		return 0, net.ErrClosed
	}
	w.pending = append(w.pending, p...)
	w.change.Broadcast()
	return len(p), nil
}

// Close ends the connection when what was written is out, or after closeGrace.
// It does not wait for that: done tells.
func (w *wire) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.closed = true
		w.change.Broadcast()
		return w.SetWriteDeadline(time.Now().Add(closeGrace))
	}
	return nil
}

// flush writes what is pending, until it is closed and all is out.
func (w *wire) flush() {
	defer close(w.done)
	defer func() { _ = w.Conn.Close() }() // nothing is left to lose
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		for len(w.pending) == 0 && !w.closed {
			w.change.Wait()
		}
		if len(w.pending) == 0 {
			return
		}
		out := w.pending
		w.pending, w.spare = w.spare[:0], nil
		w.mu.Unlock()
		_, err := w.Conn.Write(out)
		w.mu.Lock()
		w.spare = out
		w.change.Broadcast()
		if err != nil {
			w.err = err
			return
		}
	}
}
