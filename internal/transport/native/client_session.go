package native

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"transferd/internal/tree"
	"transferd/protocol"
)

// reserved is how many operations are kept for short ones: while uploads and
// listings wait for each other, something must still get through.
const reserved = protocol.MinOperations / 2

// A clientSession is the client's end of one session: what WELCOME began, until
// its control stream ends.
type clientSession struct {
	c       *Client
	hello   *protocol.ServerHello
	welcome *protocol.Welcome
	bound   []byte // what joins over stdio are bound to
	control *lane

	ids   atomic.Uint64
	slots *semaphore.Weighted // operations that may be open
	long  *semaphore.Weighted // those of them that may be so for long
	room  *semaphore.Weighted // bytes of the window
	names *semaphore.Weighted // handles that may be open

	uploads uploads
	pull    atomic.Int64  // bytes a second that came while all streams were busy; 0: not known
	aside   atomic.Bool   // files go over other streams than the control stream, if there are any
	dead    chan struct{} // closed when the session has ended

	mu         sync.Mutex
	lanes      []*lane // open, control first
	err        error   // why it ended
	stop       func()  // ends the context of what runs beside
	nextStream uint32
	nextHandle uint32
}

func newClientSession(c *Client, st *stream, hello *protocol.ServerHello, welcome *protocol.Welcome) *clientSession {
	s := &clientSession{
		c:       c,
		hello:   hello,
		welcome: welcome,
		slots:   semaphore.NewWeighted(int64(welcome.Operations)),
		long:    semaphore.NewWeighted(int64(welcome.Operations) - reserved),
		room:    semaphore.NewWeighted(int64(min(welcome.Window, math.MaxInt64))),
		names:   semaphore.NewWeighted(int64(welcome.Handles)),
		dead:    make(chan struct{}),
	}
	s.control = newLane(s, st, 0)
	s.lanes = []*lane{s.control}
	return s
}

// begin starts what a session needs besides its callers, and reports whether it
// could: not once the Client is closed.
func (s *clientSession) begin() bool {
	if !s.c.spawn(s.control.read) {
		return false
	}
	s.control.ping() // for the round trip
	ctx, cancel := context.WithCancel(context.Background())
	if !s.c.spawn(func() { spread(ctx, s) }) {
		cancel()
		return true // it is about to end
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop = cancel
	if s.err != nil {
		cancel()
	}
	return true
}

// left is told when a lane has ended. The session goes on without it, unless it
// was the control stream or the server is broken.
func (s *clientSession) left(l *lane, err error, broken bool) {
	s.c.o.Log.Debug("native stream ended", "server", s.c.o.Label, "stream", l.number, "error", err)
	if l == s.control || broken {
		s.end(err)
		return
	}
	defer s.uploads.left(l, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, other := range s.lanes {
		if other == l {
			s.lanes = append(s.lanes[:i:i], s.lanes[i+1:]...)
		}
	}
}

// end ends the session at once.
func (s *clientSession) end(err error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = err
		close(s.dead)
		if s.stop != nil {
			s.stop()
		}
	}
	lanes := s.lanes
	s.mu.Unlock()
	for _, l := range lanes {
		l.fail(err)
	}
}

// leave ends the session in order.
func (s *clientSession) leave() {
	var ends sync.WaitGroup
	for _, l := range s.streams() {
		ends.Go(func() { l.goodbye(protocol.CodeDone, "") })
	}
	ends.Wait()
	s.end(&lostError{tree.ErrClosed})
}

// cause returns why the session has ended, nil while it has not.
func (s *clientSession) cause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// streams returns the lanes that are open, the control stream first.
func (s *clientSession) streams() []*lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*lane(nil), s.lanes...)
}

// bulk returns the lanes that files go over: at least one.
func (s *clientSession) bulk() []*lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*lane(nil), s.forFiles()...)
}

// first returns the lane for what has to stay together.
func (s *clientSession) first() *lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.forFiles()[0]
}

// forFiles is bulk for those who hold mu.
func (s *clientSession) forFiles() []*lane {
	if s.aside.Load() && len(s.lanes) > 1 {
		return s.lanes[1:]
	}
	return s.lanes
}

// pick chooses the lane with the least to do for n bytes, and counts them to its
// load. Whoever gets it takes them off again when they are through.
func (s *clientSession) pick(n int64) *lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	lanes := s.forFiles()
	best := lanes[0]
	for _, l := range lanes[1:] {
		if l.load.Load() < best.load.Load() {
			best = l
		}
	}
	best.load.Add(n)
	return best
}

// maxStreams is how many streams the session may have.
func (s *clientSession) maxStreams() int {
	if s.c.o.Join == nil {
		return 1
	}
	n := int(min(s.welcome.Streams, math.MaxInt16))
	most := s.c.o.Streams
	switch {
	case most == 0:
		return n
	case s.aside.Load():
		most++ // the control stream is none that files go over
	}
	return min(n, most)
}

// handle returns a number that no handle of the session had before, and room
// for it among those that may be open. It is given back by s.names.
func (s *clientSession) handle(ctx context.Context) (uint32, error) {
	if !s.names.TryAcquire(1) {
		// Whoever holds them all and wants one more waits for itself.
		bounded, cancel := context.WithTimeout(ctx, handleWait)
		defer cancel()
		if s.names.Acquire(bounded, 1) != nil {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			return 0, fmt.Errorf("too many open files: the server allows %d", s.welcome.Handles)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.nextHandle == math.MaxUint32 {
		s.names.Release(1)
		return 0, errors.New("all numbers of handles have been used")
	}
	s.nextHandle++
	return s.nextHandle, nil
}

// handleWait bounds how long an Open waits for another file to be closed.
const handleWait = 30 * time.Second

// extension reports whether the server's hello has the extension.
func (s *clientSession) extension(name string) bool {
	for _, e := range s.hello.Extensions {
		if e.Name == name {
			return true
		}
	}
	return false
}
