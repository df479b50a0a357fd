package native

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"transferd/internal/tree"
	"transferd/protocol"
)

const (
	// highWater is how many bytes of small frames may wait before send does: a
	// control frame never waits behind more than that and one payload.
	highWater = 256 << 10

	// flood is how many bytes post lets gather. A peer that asks and does not
	// read the answers has made more of them than any honest one.
	flood = 8 << 20

	// smallPayload is up to where a payload is copied behind its header, so that
	// both make one write and, over TLS, one record.
	smallPayload = 16 << 10

	// goodbyeGrace bounds how long a stream that has said GOODBYE goes on.
	goodbyeGrace = time.Second
)

// A stream is a Stream cut into frames, at either end. Sending is safe for
// concurrent use; next and Read belong to one goroutine. The first error ends
// it, and all that comes after fails with that error. Whoever made it ends it,
// by Close or goodbye.
type stream struct {
	conn *Stream
	peer protocol.Sender // who is at the other end
	in   *input

	start    time.Time
	lastSent atomic.Int64  // ns after start when the last write returned
	sent     atomic.Int64  // bytes that the connection has taken
	turn     chan struct{} // full while somebody sends DATA; waiting for it is in order of coming
	dead     chan struct{} // closed with err
	flushed  chan struct{} // closed when the flusher has ended

	mu      sync.Mutex
	change  *sync.Cond // writing, pending, ending or err has changed; the flusher, the sender of DATA and goodbye wait
	room    *sync.Cond // pending has been taken; send waits
	pending []byte     // whole frames that wait for the writer
	spare   []byte     // the memory for the next pending
	writing bool       // somebody writes to conn, without mu
	ending  bool       // GOODBYE is the last of pending, or sent
	err     error      // why the stream is dead
	pace    pace       // of writes

	live liveness
}

// newStream returns the framed form of conn and owns it. Bodies are bounded by
// MaxHandshakeFrame, and nothing watches whether the peer is there, before open.
func newStream(conn *Stream, peer protocol.Sender) *stream {
	s := &stream{
		conn:    conn,
		peer:    peer,
		start:   time.Now().Add(-1), // so that no time after it is 0
		turn:    make(chan struct{}, 1),
		dead:    make(chan struct{}),
		flushed: make(chan struct{}),
	}
	s.in = newInput(s)
	s.change, s.room = sync.NewCond(&s.mu), sync.NewCond(&s.mu)
	go s.flush()
	return s
}

// A lostError is what every call on a dead stream returns.
type lostError struct{ cause error }

// Error says what happened, without calls and addresses of a connection.
func (e *lostError) Error() string {
	var number syscall.Errno
	switch {
	case errors.As(e.cause, &number):
		return fmt.Sprintf("%v: %v", tree.ErrLost, number)
	case errors.Is(e.cause, net.ErrClosed): // what was written could not be sent
		return tree.ErrLost.Error()
	}
	return fmt.Sprintf("%v: %v", tree.ErrLost, e.cause)
}

func (e *lostError) Unwrap() []error { return []error{tree.ErrLost, e.cause} }

var (
	errEnding    = errors.New("the stream has been ended")
	errFlood     = errors.New("the other end does not read its answers")
	errSilent    = errors.New("nothing came from the other end for 15 s")
	errCutShort  = errors.New("the other end closed the connection without a word")
	errNoPreface = errors.New("the other end does not speak the native protocol")
)

// fail makes err the stream's end, unless it has one, and closes the connection.
func (s *stream) fail(err error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = &lostError{err}
		close(s.dead)
		s.live.stop()
	}
	s.change.Broadcast()
	s.room.Broadcast()
	s.mu.Unlock()
	_ = s.conn.Close() // whatever it says, nothing goes this way any more
}

// cause returns why the stream is dead, nil while it is not.
func (s *stream) cause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close is abrupt: what was not written is lost, and whoever waits returns. It
// may be called several times, and not by what runs below a write of conn.
func (s *stream) Close() {
	s.fail(net.ErrClosed)
	<-s.flushed
}

// refusal is why nothing can be sent any more. The caller holds mu.
func (s *stream) refusal() error {
	if s.err == nil && s.ending {
		return &lostError{errEnding}
	}
	return s.err
}

// sendPreface sends the preface. It must be the first that is sent.
func (s *stream) sendPreface() error { return s.sendRaw([]byte(protocol.Preface)) }

// sendRaw sends whole frames that the caller has made, for those whose exact
// bytes are signed.
func (s *stream) sendRaw(frame []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refusal(); err != nil {
		return err
	}
	s.pending = append(s.pending, frame...)
	s.change.Broadcast()
	return nil
}

// send sends a whole frame, DATA excepted. It returns when the frame stands in
// line, and waits with ctx while too much does; the reader of a stream uses
// post. An error that is no *protocol.Error is the stream's end or ctx's.
func (s *stream) send(ctx context.Context, id uint64, m protocol.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) >= highWater && s.err == nil {
		if err := s.waitForRoom(ctx); err != nil {
			return err
		}
	}
	return s.append(id, m)
}

func (s *stream) waitForRoom(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.room.Broadcast()
	})
	defer stop()
	for len(s.pending) >= highWater && s.err == nil {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.room.Wait()
	}
	return nil
}

// post is send without waiting, for small answers of those who must go on
// reading. A peer that makes it gather too much loses the stream.
func (s *stream) post(id uint64, m protocol.Message) error {
	s.mu.Lock()
	if len(s.pending) > flood {
		s.mu.Unlock()
		s.fail(errFlood)
		return s.cause()
	}
	defer s.mu.Unlock()
	return s.append(id, m)
}

// append puts a frame in line. The caller holds mu.
func (s *stream) append(id uint64, m protocol.Message) error {
	if err := s.refusal(); err != nil {
		return err
	}
	b, err := protocol.Append(s.pending, id, m)
	if err != nil {
		return err
	}
	if len(s.pending) == 0 {
		s.change.Broadcast()
	}
	s.pending = b
	return nil
}

// take returns what is pending, for the one who is about to write. The caller
// holds mu, and gives the memory back by wrote.
func (s *stream) take() []byte {
	batch := s.pending
	s.pending, s.spare = s.spare[:0], nil
	return batch
}

// write writes the batch, and payload behind it. The caller holds mu, which is
// not held meanwhile, and nobody is writing.
func (s *stream) write(batch, payload []byte) {
	s.writing = true
	s.room.Broadcast()
	s.mu.Unlock()
	began := time.Now()
	_, err := s.conn.Write(batch)
	if err == nil && len(payload) > 0 {
		_, err = s.conn.Write(payload)
	}
	ended := time.Now()
	s.lastSent.Store(int64(ended.Sub(s.start)))
	s.sent.Add(int64(len(batch) + len(payload)))
	if err != nil {
		s.fail(err)
	}
	s.mu.Lock()
	s.writing = false
	s.pace.note(len(batch)+len(payload), ended.Sub(began))
	if s.spare == nil {
		s.spare = batch[:0]
	}
	s.change.Broadcast()
}

// flush writes what is pending until the stream is dead.
func (s *stream) flush() {
	defer close(s.flushed)
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for s.err == nil && (s.writing || len(s.pending) == 0) {
			s.change.Wait()
		}
		if s.err != nil {
			return
		}
		s.write(s.take(), nil)
	}
}

// acquire waits until it is the caller's turn to send DATA, in order of coming;
// nobody else's goes out before release.
func (s *stream) acquire(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	default:
	}
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.dead:
		return s.cause()
	}
}

// release ends a turn.
func (s *stream) release() { <-s.turn }

// data sends one DATA within a turn. It returns when the connection has taken
// all of it, so that the payload can be used again, and takes with it what small
// frames are waiting. It allocates nothing.
func (s *stream) data(id uint64, m *protocol.Data) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.err == nil && s.writing {
		s.change.Wait()
	}
	if err := s.refusal(); err != nil {
		return err
	}
	batch, err := protocol.AppendData(s.take(), id, m)
	if err != nil {
		s.spare, s.pending = s.pending, batch
		return err
	}
	payload := m.Payload
	if len(payload) <= smallPayload {
		batch, payload = append(batch, payload...), nil
	}
	s.write(batch, payload)
	return s.err
}

// sendData is one DATA in a turn of its own.
func (s *stream) sendData(ctx context.Context, id uint64, m *protocol.Data) error {
	if err := s.acquire(ctx); err != nil {
		return err
	}
	defer s.release()
	return s.data(id, m)
}

// goodbye sends GOODBYE behind everything that waits, nothing after it, and
// closes the stream. It takes goodbyeGrace at most. Unless code is DONE it lets
// the peer close first: a reset, which unread bytes cause, could overtake the
// reason.
func (s *stream) goodbye(code protocol.Code, message string) {
	defer s.Close()
	late := time.AfterFunc(goodbyeGrace, func() { s.fail(net.ErrClosed) })
	defer late.Stop()
	s.mu.Lock()
	if len(message) > protocol.MaxMessage {
		message = message[:protocol.MaxMessage]
	}
	if s.append(0, &protocol.Goodbye{Code: code, Message: message}) == nil {
		s.ending = true
		s.in.ending.Store(true)
	}
	for s.err == nil && (s.writing || len(s.pending) > 0) {
		s.change.Wait()
	}
	s.mu.Unlock()
	if code != protocol.CodeDone {
		s.in.drain()
	}
}
