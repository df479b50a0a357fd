package native

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"transferd/protocol"
)

const (
	// idleInput and loadedInput are the sizes of a stream's read buffer: one for
	// streams on which little comes, and one that takes many small frames at once.
	idleInput   = 4 << 10
	loadedInput = 32 << 10

	// knownInput is what a frame gets before its bytes are there. More of it
	// comes as they come.
	knownInput = 64 << 10

	// calmReads is after how many short reads a large buffer is given up.
	calmReads = 4
)

// An input is the reading half of a stream.
type input struct {
	s      *stream
	frames *protocol.Reader
	body   []byte        // of the last frame whose message keeps nothing of it
	raw    []byte        // of the last frame
	data   protocol.Data // of the last frame

	using   sync.Mutex    // held while something is read
	ending  atomic.Bool   // GOODBYE was sent: what comes is skipped
	done    chan struct{} // closed when next has returned its last error
	once    sync.Once     // closes done
	opening bool          // the next frame opens the stream
	known   bool          // the handshake is over: the peer may make us hold more
	reading atomic.Int64  // ns after start since when a read has been waiting; 0: none is

	buf       []byte
	from, to  int // what of buf has not been taken
	shortened int // reads in a row that did not need a large buffer
}

func newInput(s *stream) *input {
	in := &input{s: s, done: make(chan struct{}), buf: make([]byte, idleInput)}
	in.frames = protocol.NewReader(buffered{in}, protocol.MaxHandshakeFrame)
	return in
}

// buffered is what a protocol.Reader reads from. What is at least as long as
// the buffer goes straight to where it belongs.
type buffered struct{ in *input }

func (b buffered) Read(p []byte) (int, error) {
	in := b.in
	if in.from == in.to {
		if len(p) >= len(in.buf) {
			return in.fill(p)
		}
		n, err := in.fill(in.buf)
		if n == 0 {
			return 0, err
		}
		in.from, in.to = 0, n // an error is found again by the next read
	}
	n := copy(p, in.buf[in.from:in.to])
	in.from += n
	if in.from == in.to {
		in.adapt()
	}
	return n, nil
}

// fill is one read of the connection.
func (in *input) fill(p []byte) (int, error) {
	in.reading.Store(int64(time.Since(in.s.start)))
	n, err := in.s.conn.Read(p)
	in.reading.Store(0)
	if n > 0 {
		err = nil
	}
	return n, err
}

// adapt chooses the size of the buffer, which is empty, by what came last.
func (in *input) adapt() {
	switch {
	case in.to == len(in.buf) && len(in.buf) < loadedInput:
		in.buf, in.shortened = make([]byte, loadedInput), 0
	case in.to > idleInput || len(in.buf) == idleInput:
		in.shortened = 0
	default:
		if in.shortened++; in.shortened >= calmReads {
			in.buf = make([]byte, idleInput)
		}
	}
	in.from, in.to = 0, 0
}

// A frame is what came on a stream.
type frame struct {
	protocol.Header

	// Message is what came, nil with Refused and for DATA. It may be kept.
	Message protocol.Message

	// Data is a DATA without its payload, which the caller reads by Read,
	// pending bytes, or leaves. It is good until the next call of next.
	Data *protocol.Data

	// Refused is a request that cannot be understood and is answered by FAIL
	// with its code; the stream goes on.
	Refused *protocol.Error
}

// readPreface reads the peer's preface, behind at most noise bytes of others.
func (s *stream) readPreface(noise int) error {
	s.in.using.Lock()
	defer s.in.using.Unlock()
	err := protocol.ReadPreface(buffered{s.in}, noise)
	var broken *protocol.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &broken):
		s.fail(errNoPreface) // whoever that is would not understand a GOODBYE
	default:
		s.fail(cutShort(err))
	}
	return s.cause()
}

// next returns the next frame that somebody has to look at: PING, PONG and what
// may be skipped are dealt with. An error that is a *protocol.Error means that
// the peer is broken: it is told so by goodbye with the error's code. Any other
// error is the end of the stream; after GOODBYE it is a *PeerError.
func (s *stream) next() (frame, error) {
	s.in.using.Lock()
	defer s.in.using.Unlock()
	for {
		f, err := s.in.frame()
		if err == nil && s.in.opening {
			s.in.opening = false
			s.open()
		}
		if err == nil && s.in.ending.Load() {
			continue
		}
		if err == nil && f.Type == protocol.TypeGoodbye {
			if m, ok := f.Message.(*protocol.Goodbye); ok {
				err = &PeerError{Code: m.Code, Message: m.Message}
			}
		}
		var broken *protocol.Error
		switch {
		case err == nil && s.live.heard(s, f.Message):
			continue
		case err == nil:
			if f.Message == nil && f.Data == nil && f.Refused == nil {
				continue // a type that may be skipped
			}
			return f, nil
		case errors.As(err, &broken) && !s.in.ending.Load():
			s.in.once.Do(func() { close(s.in.done) })
			return f, err
		}
		s.fail(cutShort(err))
		s.in.once.Do(func() { close(s.in.done) })
		return f, s.cause()
	}
}

// cutShort gives the end of a connection that nobody announced a better name.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errCutShort
	}
	return err
}

// frame reads one frame.
func (in *input) frame() (frame, error) {
	var f frame
	var err error
	if f.Header, err = in.frames.Next(); err != nil {
		return f, err
	}
	if f.Type.Known() && f.Type.Sender()&in.s.peer == 0 {
		return f, &protocol.Error{Code: protocol.CodeBadState, Type: f.Type}
	}
	switch {
	case !f.Type.Known() && f.Type.Ignorable():
		return f, nil
	case f.Type == protocol.TypeData:
		in.data = protocol.Data{}
		f.Data = &in.data
		err = in.frames.Data(&in.data)
	case f.Type.Known():
		if in.raw, err = in.frames.Body(in.memory(f.Header)); err == nil {
			f.Message, err = protocol.Decode(f.Type, in.raw)
		}
	default:
		err = &protocol.Error{Code: protocol.CodeUnsupported, Type: f.Type}
	}
	var refused *protocol.Error
	if errors.As(err, &refused) {
		f.Message, f.Data = nil, nil
		if in.s.peer == protocol.FromClient && f.ID != 0 && refused.Code != protocol.CodeBadMessage {
			f.Refused, err = refused, nil
		}
	}
	return f, err
}

// memory is where the body of a frame is read to: memory of its own where the
// message will lie in it.
func (in *input) memory(h protocol.Header) []byte {
	first := min(h.Length, idleInput)
	if in.known {
		first = min(h.Length, knownInput)
	}
	if aliases(h.Type) {
		return make([]byte, 0, first)
	}
	if cap(in.body) < int(first) {
		in.body = make([]byte, 0, first)
	}
	if cap(in.body) > loadedInput && h.Length < idleInput {
		in.body = make([]byte, 0, h.Length)
	}
	return in.body
}

// aliases reports whether a message of type t has bytes that lie in its frame.
func aliases(t protocol.Type) bool {
	//nolint:exhaustive // all the others are copied when they are decoded
	switch t {
	case protocol.TypePing, protocol.TypePong, protocol.TypeOK, protocol.TypeFail, protocol.TypeCommitted,
		protocol.TypeMkdir, protocol.TypeStat, protocol.TypeOpen, protocol.TypeOpenDir, protocol.TypeClose,
		protocol.TypeRead, protocol.TypeGet, protocol.TypeBegin, protocol.TypeBegun, protocol.TypeHave,
		protocol.TypeBad, protocol.TypeAck, protocol.TypeHashed, protocol.TypeHash, protocol.TypeCancel:
		return false
	default:
		return true
	}
}

// rawBody is the body of the frame that next returned last, DATA excepted, for
// those whose exact bytes are signed. It is good until the next call of next.
func (s *stream) rawBody() []byte { return s.in.raw }

// pending is how many bytes of the payload of the DATA that next returned have
// not been read.
func (s *stream) left() int { return s.in.frames.Pending() }

// Read reads the payload of the DATA that next returned, io.EOF at its end. It
// fails only with the stream.
func (s *stream) Read(p []byte) (int, error) {
	s.in.using.Lock()
	defer s.in.using.Unlock()
	n, err := s.in.frames.Read(p)
	if err == nil || s.in.frames.Pending() == 0 {
		return n, err
	}
	s.fail(cutShort(err))
	return n, s.cause()
}

// drain skips what comes until the peer closes the stream, or the stream is dead.
func (in *input) drain() {
	if !in.using.TryLock() { // somebody is in next, and skips
		select {
		case <-in.done:
		case <-in.s.dead:
		}
		return
	}
	defer in.using.Unlock()
	_, _ = io.Copy(io.Discard, in.s.conn) // ends with the stream
}
