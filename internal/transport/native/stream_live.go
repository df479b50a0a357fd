package native

import (
	"sync"
	"sync/atomic"
	"time"

	"transferd/protocol"
)

// liveness finds out whether the peer of a stream is still there, and how far
// away it is.
type liveness struct {
	rtt atomic.Int64 // the shortest round trip in ns; 0: not known

	mu     sync.Mutex
	timer  *time.Timer
	over   bool
	nonce  uint64    // of the last PING
	pinged time.Time // when it went; zero: answered
}

// open begins the time after the handshake: bodies may be as long as our max_data
// lets them be, PING is sent, and silence is death.
func (s *stream) open() {
	if s.conn.Opened != nil {
		s.conn.Opened()
	}
	s.in.frames.SetLimit(protocol.MaxFrame)
	s.in.known = true
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	if !s.live.over && s.live.timer == nil {
		s.live.timer = time.AfterFunc(protocol.PingAfter*time.Second, s.watch)
	}
}

// openWithNext opens the stream when the next frame comes: a server sends nothing
// on a stream that joins before its client has (docs/protocol.md, section 6).
// It belongs to who calls next.
func (s *stream) openWithNext() {
	s.in.frames.SetLimit(protocol.MaxFrame)
	s.in.known = true
	s.in.opening = true
}

func (l *liveness) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	if l.timer != nil {
		l.timer.Stop()
	}
}

// watch looks at the stream, and says when it wants to do so again.
func (s *stream) watch() {
	const ping, dead = protocol.PingAfter * time.Second, protocol.DeadAfter * time.Second
	now := time.Since(s.start)
	again := ping
	if reading := time.Duration(s.in.reading.Load()); reading > 0 {
		if now-reading >= dead {
			s.fail(errSilent)
			return
		}
		again = min(again, reading+dead-now)
	}
	s.mu.Lock()
	quiet := !s.writing && len(s.pending) == 0
	if quiet {
		s.pending, s.spare = nil, nil // an idle stream holds no memory
	}
	s.mu.Unlock()
	if silence := now - time.Duration(s.lastSent.Load()); quiet && silence >= ping {
		s.ping()
	} else if quiet {
		again = min(again, ping-silence)
	}
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	if !s.live.over {
		s.live.timer.Reset(again)
	}
}

// ping sends a PING, whose answer tells the round trip.
func (s *stream) ping() {
	s.live.mu.Lock()
	s.live.nonce++
	nonce := s.live.nonce
	s.live.pinged = time.Now()
	s.live.mu.Unlock()
	_ = s.post(0, &protocol.Ping{Nonce: nonce}) // who reads finds the error too
}

// heard deals with PING and PONG of an open stream, and reports whether m was
// one. In a handshake they are out of place.
func (l *liveness) heard(s *stream, m protocol.Message) bool {
	switch m.(type) {
	case *protocol.Ping, *protocol.Pong:
		l.mu.Lock()
		open := l.timer != nil
		l.mu.Unlock()
		if !open {
			return false
		}
	}
	switch m := m.(type) {
	case *protocol.Ping:
		_ = s.post(0, &protocol.Pong{Nonce: m.Nonce}) // the next read finds the error too
		return true
	case *protocol.Pong:
		l.mu.Lock()
		defer l.mu.Unlock()
		if m.Nonce == l.nonce && !l.pinged.IsZero() {
			l.note(time.Since(l.pinged))
			l.pinged = time.Time{}
		}
		return true
	}
	return false
}

// note takes a measured round trip.
func (l *liveness) note(d time.Duration) {
	d = max(d, 1)
	if old := l.rtt.Load(); old == 0 || int64(d) < old {
		l.rtt.Store(int64(d))
	}
}

// roundTrip is the shortest round trip seen so far; 0: none has been.
func (s *stream) roundTrip() time.Duration { return time.Duration(s.live.rtt.Load()) }

// A pace is how fast the connection takes what is written: as fast as it is
// encrypted, or, once its buffers are full, as fast as it goes out. The last ten
// MiB or so count.
type pace struct{ bytes, ns float64 }

const (
	memory = 10 << 20 // bytes that count
	known  = 1 << 20  // bytes before which nothing is said
)

func (p *pace) note(n int, took time.Duration) {
	fade := max(0, 1-float64(n)/memory)
	p.bytes, p.ns = p.bytes*fade+float64(n), p.ns*fade+float64(took)
}

// sendRate is how many bytes a second the connection takes; 0: not known yet.
func (s *stream) sendRate() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pace.bytes < known || s.pace.ns <= 0 {
		return 0
	}
	return s.pace.bytes / s.pace.ns * float64(time.Second)
}
