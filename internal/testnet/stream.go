package testnet

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// A stream is one direction of a connection.
type stream struct {
	mu   sync.Mutex
	cond *sync.Cond

	segments []segment // what is on its way, in order
	buffered int
	sent     int64
	finished bool  // the writer closed
	readErr  error // the stream is broken; nothing more arrives
	writeErr error

	stalled bool
	rate    int64
	latency time.Duration
	free    time.Time // when the line has sent what it was given; with rate
	flips   []int64
	cutAt   int64 // 0: never
	onCut   func()
	holdAt  int64 // what is sent from here on never arrives; 0: no such place

	readDeadline, writeDeadline deadline
}

// A segment is the bytes of one Write, to be read from when on.
type segment struct {
	data []byte
	when time.Time
	held bool // it never arrives, nor what is behind it
}

func newStream() *stream {
	s := &stream{}
	s.cond = sync.NewCond(&s.mu)
	return s
}

func (s *stream) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.readErr != nil:
			return 0, s.readErr
		case s.readDeadline.passed:
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			return 0, nil
		case s.stalled:
		case len(s.segments) > 0 && s.segments[0].held:
		case len(s.segments) > 0:
			if wait := time.Until(s.segments[0].when); wait > 0 {
				s.wakeAfter(wait)
				continue
			}
			return s.take(p), nil
		case s.finished:
			return 0, io.EOF
		}
		s.cond.Wait()
	}
}

// wakeAfter waits for a change, d at most. s.mu is held.
func (s *stream) wakeAfter(d time.Duration) {
	timer := time.AfterFunc(d, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.cond.Broadcast()
	})
	s.cond.Wait()
	timer.Stop()
}

func (s *stream) take(p []byte) int {
	n := 0
	for n < len(p) && len(s.segments) > 0 && !s.segments[0].held && (n == 0 || time.Until(s.segments[0].when) <= 0) {
		k := copy(p[n:], s.segments[0].data)
		n += k
		if s.segments[0].data = s.segments[0].data[k:]; len(s.segments[0].data) == 0 {
			s.segments = s.segments[1:]
		}
	}
	s.buffered -= n
	s.cond.Broadcast()
	return n
}

func (s *stream) write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		k, cut, err := s.put(p[n:])
		n += k
		if cut != nil {
			cut()
			return n, syscall.ECONNRESET
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// put takes some of p, at least one byte. A cut that is due is left to the
// caller, because it needs the other direction's lock too.
func (s *stream) put(p []byte) (n int, cut func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.writeErr != nil:
			return 0, nil, s.writeErr
		case s.finished:
			return 0, nil, net.ErrClosed
		case s.writeDeadline.passed:
			return 0, nil, os.ErrDeadlineExceeded
		}
		if s.buffered < BufferSize {
			break
		}
		s.cond.Wait()
	}
	n = min(len(p), BufferSize-s.buffered)
	if s.cutAt > 0 && s.sent+int64(n) >= s.cutAt {
		n, cut = int(s.cutAt-s.sent), s.onCut
	}
	held := s.holdAt > 0 && s.sent >= s.holdAt
	if s.holdAt > s.sent {
		n = int(min(int64(n), s.holdAt-s.sent))
	}
	data := append([]byte(nil), p[:n]...)
	for _, at := range s.flips {
		if i := at - s.sent; i >= 0 && i < int64(n) {
			data[i] ^= 0xff
		}
	}
	s.segments = append(s.segments, segment{data: data, when: s.arrival(n), held: held})
	s.buffered += n
	s.sent += int64(n)
	s.cond.Broadcast()
	return n, cut, nil
}

// arrival says when n more bytes are there. The zero time means now, so that
// an unslowed stream never asks the clock.
func (s *stream) arrival(n int) time.Time {
	if s.rate == 0 && s.latency == 0 {
		return time.Time{}
	}
	start := time.Now()
	if s.rate > 0 {
		if s.free.After(start) {
			start = s.free
		}
		start = start.Add(time.Duration(n) * time.Second / time.Duration(s.rate))
		s.free = start
	}
	return start.Add(s.latency)
}

func (s *stream) stall(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stalled = on
	s.cond.Broadcast()
}

// finish is the writer's close.
func (s *stream) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finished = true
	s.cond.Broadcast()
}

// fail breaks the stream for both ends; the first failure stays.
func (s *stream) fail(read, write error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readErr == nil {
		s.readErr, s.writeErr = read, write
		s.segments, s.buffered = nil, 0
	}
	s.readDeadline.stop()
	s.writeDeadline.stop()
	s.cond.Broadcast()
}

// A deadline is guarded by the mutex of its stream.
type deadline struct {
	timer  *time.Timer
	passed bool
	serial int // tells a stale timer from the present one
}

func (d *deadline) set(s *stream, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.stop()
	d.serial++
	d.passed = false
	if t.IsZero() {
		s.cond.Broadcast()
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		d.passed = true
		s.cond.Broadcast()
		return
	}
	serial := d.serial
	d.timer = time.AfterFunc(wait, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if d.serial == serial {
			d.passed = true
			s.cond.Broadcast()
		}
	})
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}
