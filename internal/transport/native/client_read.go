package native

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"transferd/internal/tree"
	"transferd/protocol"
)

const (
	// step is how much of a payload is read between two looks at whether somebody
	// still wants it.
	step = 64 << 10

	// stuck is how long a buffer that nobody wants filled any more may be held by
	// a stream that does not deliver.
	stuck = 250 * time.Millisecond
)

var errAbandoned = errors.New("the stream stood still in the middle of what was no longer wanted")

// A reading is the op of a READ: DATA go straight into the buffer of whoever
// asked.
type reading struct {
	s     *clientSession
	off   int64
	value bool // the value of the chunk is wanted

	filling chan struct{} // full while p is written to
	gone    atomic.Bool
	p       []byte
	n       int // bytes of p that are there

	done  chan struct{} // has one token when it has ended; what is below is good then
	last  protocol.DataFlags
	found [32]byte
	fail  *protocol.Fail
	err   error
}

func (r *reading) take(l *lane, f *frame) (bool, error) {
	if m, ok := f.Message.(*protocol.Fail); ok {
		r.fail = m
		return true, nil
	}
	d := f.Data
	if d == nil {
		return true, violation(f.Type)
	}
	n, last := int(d.Length), d.Flags&protocol.DataLast != 0
	if d.Offset != r.off+int64(r.n) || n > len(r.p)-r.n || n == 0 && !last {
		return true, &protocol.Error{Code: protocol.CodeWrongOffset, Type: f.Type, Field: "offset"}
	}
	if err := r.fill(l, d, r.p[r.n:r.n+n]); err != nil {
		return true, err
	}
	l.received.Add(int64(n))
	if r.n += n; !last {
		return false, nil
	}
	if r.n < len(r.p) && d.Flags&protocol.DataEOF == 0 || r.value && d.Flags&protocol.DataValue == 0 {
		return true, &protocol.Error{Code: protocol.CodeBadMessage, Type: f.Type, Field: "flags"}
	}
	r.last, r.found = d.Flags, d.Value
	return true, nil
}

// fill reads the payload of d into p, as far as that is still wanted; next skips
// the rest.
func (r *reading) fill(l *lane, d *protocol.Data, p []byte) error {
	if d.Encoding != protocol.EncodingRaw {
		return r.part(func() error { return r.s.c.payloads.receive(l.stream, d, p) })
	}
	for len(p) > 0 && !r.gone.Load() {
		part := p[:min(len(p), step)]
		if err := r.part(func() error { return r.s.c.payloads.receive(l.stream, d, part) }); err != nil {
			return err
		}
		p = p[len(part):]
	}
	return nil
}

// part fills a part of the buffer, unless nobody wants that any more.
func (r *reading) part(fill func() error) error {
	r.filling <- struct{}{}
	defer func() { <-r.filling }()
	if r.gone.Load() {
		return nil
	}
	return fill()
}

func (r *reading) ended(err error) {
	r.err = err
	r.done <- struct{}{}
}

// leave gives up waiting, and returns when nothing writes to the buffer any more.
func (r *reading) leave(l *lane, id uint64) {
	r.gone.Store(true)
	l.cancel(id)
	late := time.AfterFunc(stuck, func() { l.fail(errAbandoned) })
	defer late.Stop()
	r.filling <- struct{}{} // nobody needs it again
}

// wait waits for the answer.
func (r *reading) wait(ctx context.Context, l *lane, id uint64) error {
	select {
	case <-r.done:
	case <-ctx.Done():
		r.leave(l, id)
		return ctx.Err()
	}
	if r.err == nil && r.fail != nil {
		return &failError{r.fail}
	}
	return r.err
}

// again reports whether what failed with err on l is worth another try: a stream
// was lost, and the session was not.
func (s *clientSession) again(l *lane, err error) bool {
	return l != s.control && errors.Is(err, tree.ErrLost) && s.cause() == nil
}

// read reads into p by one READ on the lane with the least to do.
func (s *clientSession) read(ctx context.Context, m *protocol.Read, p []byte) (*reading, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		r := &reading{s: s, off: m.Offset, value: m.Flags&protocol.ReadValue != 0, p: p}
		r.filling, r.done = make(chan struct{}, 1), make(chan struct{}, 1)
		l := s.pick(int64(len(p)))
		id, err := l.start(ctx, r, m)
		if err == nil {
			err = r.wait(ctx, l, id)
		}
		l.load.Add(-int64(len(p)))
		if err == nil || !s.again(l, err) {
			return r, err
		}
	}
}

// readFlags says how DATA may look.
func (s *clientSession) readFlags() protocol.ReadFlags {
	flags := protocol.ReadHoles
	if s.wantsZstd() {
		flags |= protocol.ReadZstd
	}
	return flags
}
