package native

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"transferd/internal/tree"
	"transferd/protocol"
)

// An op is an operation that waits for answers. Its methods are called by the
// goroutine that reads the stream and must not wait for anything but the payload
// of the frame.
type op interface {
	// take is given each answer; the payload of DATA is read from l, as much of
	// it as is wanted. It reports whether that was the last answer. An error
	// says that the server is broken, and ends the session.
	take(l *lane, f *frame) (last bool, err error)

	// ended is called once, with nil behind the last answer, or with why there
	// will be none. The place of the operation among those that may be open is
	// free by then.
	ended(err error)
}

// A lane is one stream of a session, at the client's end.
type lane struct {
	*stream

	sess   *clientSession
	number uint32 // 0: the control stream

	load     atomic.Int64 // bytes that were asked for or are to be sent, and are not through
	received atomic.Int64 // bytes of payload

	mu  sync.Mutex
	ops map[uint64]op // what is open
	err error         // why there will be no more answers
}

func newLane(s *clientSession, st *stream, number uint32) *lane {
	return &lane{stream: st, sess: s, number: number, ops: map[uint64]op{}}
}

// start begins an operation with m, and waits in line while too many are open.
// After an error o hears nothing; otherwise o.ended says how it ended. Operations
// that stay open for long, or until others have ended, hold a place in sess.long
// besides.
func (l *lane) start(ctx context.Context, o op, m protocol.Message) (uint64, error) {
	if err := l.sess.slots.Acquire(ctx, 1); err != nil {
		return 0, err
	}
	id := l.sess.ids.Add(1)
	l.mu.Lock()
	if l.err != nil {
		defer l.mu.Unlock()
		l.sess.slots.Release(1)
		return 0, l.err
	}
	l.ops[id] = o
	l.mu.Unlock()
	if err := l.send(ctx, id, m); err != nil && l.forget(id) != nil {
		l.sess.slots.Release(1)
		return 0, err
	}
	return id, nil
}

// cancel asks the server to end an operation early. Its answer is still to come.
func (l *lane) cancel(id uint64) {
	_ = l.post(id, &protocol.Cancel{}) // a dead stream has cancelled everything
}

// forget takes an operation off the list, and returns nil if it was not there.
func (l *lane) forget(id uint64) op {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := l.ops[id]
	delete(l.ops, id)
	return o
}

// read hands answers to those who wait for them, until the stream ends.
func (l *lane) read() {
	for {
		f, err := l.next()
		if err == nil {
			err = l.dispatch(&f)
		}
		if err == nil {
			continue
		}
		var broken *protocol.Error
		if errors.As(err, &broken) && l.cause() == nil {
			l.goodbye(broken.Code, broken.Error())
			err = &lostError{err}
		}
		l.Close()
		if !errors.Is(err, tree.ErrLost) {
			err = &lostError{err}
		}
		l.sess.left(l, err, broken != nil) // first, so that nobody is sent here again
		l.end(err)
		return
	}
}

func (l *lane) dispatch(f *frame) error {
	l.mu.Lock()
	o := l.ops[f.ID]
	l.mu.Unlock()
	if o == nil { // who gave up waiting is still on the list
		return violation(f.Type)
	}
	last, err := o.take(l, f)
	if err != nil || !last {
		return err
	}
	if l.forget(f.ID) != nil {
		l.sess.slots.Release(1)
		o.ended(nil)
	}
	return nil
}

// end tells everybody who waits that there will be no answer.
func (l *lane) end(err error) {
	l.mu.Lock()
	l.err = err
	ops := l.ops
	l.ops = nil
	l.mu.Unlock()
	for _, o := range ops {
		l.sess.slots.Release(1)
		o.ended(err)
	}
}

// violation is a message that nobody asked for.
func violation(t protocol.Type) error {
	return &protocol.Error{Code: protocol.CodeBadState, Type: t}
}

// describe tells a person about the lane.
func (l *lane) describe() string {
	line := fmt.Sprintf("stream %d: %s", l.number, l.conn.Transport)
	if l.conn.Remote.IsValid() {
		line += " to " + l.conn.Remote.String()
	}
	if d := l.roundTrip(); d > 0 {
		line += fmt.Sprintf(", round trip %v", d.Round(time.Microsecond))
	}
	return fmt.Sprintf("%s, %d bytes sent, %d bytes of files received", line, l.sent.Load(), l.received.Load())
}
