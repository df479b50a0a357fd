package native

import (
	"context"
	"errors"

	"transferd/protocol"
)

// A serverStream is one open stream of a session. Its read loop takes requests
// and hands them on, and never waits for a disk.
type serverStream struct {
	session *serverSession
	conn    *stream
	intake  *intake
	line    line // what changes names, and what waits behind it

	gets, reads workers

	// ctx ends with the stream: nobody is left to take what is read for it.
	ctx    context.Context
	cancel context.CancelFunc
}

func newServerStream(one *serverSession, conn *stream) *serverStream {
	on := &serverStream{
		session: one, conn: conn, intake: one.uploads.intake(conn),
		gets: workers{limit: parallelGets}, reads: workers{limit: parallelReads},
	}
	on.ctx, on.cancel = context.WithCancel(one.ctx)
	on.line.start = (*serverOp).start
	return on
}

// serve reads requests until the stream ends, and then ends what ends with it.
func (on *serverStream) serve() error {
	one := on.session
	defer func() {
		on.conn.Close()
		on.intake.lost()
		one.uploads.lost(on.conn)
		if on == one.control {
			one.end()
		}
		one.remove(on)
	}()
	err := on.read()
	if broken, ok := isBroken(err); ok {
		on.conn.goodbye(broken.Code, broken.Error())
		return err
	}
	var said *PeerError
	if errors.As(err, &said) && said.Code == protocol.CodeDone {
		return nil
	}
	one.mu.Lock()
	defer one.mu.Unlock()
	return errorOfEnd(one.ending, err)
}

// errorOfEnd returns what Serve says of a stream that ended with err, when its
// session had ended with code.
func errorOfEnd(code protocol.Code, err error) error {
	//nolint:exhaustive // a session ends for no other reason
	switch code {
	case 0:
		return err
	case protocol.CodeDone:
		return nil
	case protocol.CodeShutdown:
		return errShutdown
	default:
		return errors.New("the session was idle")
	}
}

// read takes frames until there are no more, and returns why.
func (on *serverStream) read() error {
	for {
		f, err := on.conn.next()
		if err != nil {
			return err
		}
		switch {
		case f.ID == 0:
			err = outOfPlace(f.Type)
		case f.Data != nil:
			err = on.data(f)
		case follows(f.Type):
			err = on.follow(f)
		default:
			err = on.request(f)
		}
		if err != nil {
			return err
		}
	}
}

func outOfPlace(t protocol.Type) error {
	return &protocol.Error{Code: protocol.CodeBadState, Type: t}
}

// follows reports whether messages of type t speak of an operation that is open.
func follows(t protocol.Type) bool {
	//nolint:exhaustive // the others begin operations, or may not be here
	switch t {
	case protocol.TypeCancel, protocol.TypeMore, protocol.TypeRecheck, protocol.TypeCommit,
		protocol.TypeSuspend, protocol.TypeAbort:
		return true
	default:
		return false
	}
}

// data takes a piece of a chunk.
func (on *serverStream) data(f frame) error {
	op := on.session.find(f.ID)
	if op == nil {
		return on.intake.data(nil, f.Data) // it has crossed the last answer
	}
	if op.upload == nil {
		return outOfPlace(f.Type)
	}
	return on.intake.data(on.session.uploads.find(f.ID), f.Data)
}

// follow takes what speaks of an operation that is open. What has crossed the
// last answer is ignored.
func (on *serverStream) follow(f frame) error {
	op := on.session.find(f.ID)
	switch {
	case op == nil:
		return nil
	case op.upload != nil:
		u := on.session.uploads.find(f.ID)
		switch {
		case u == nil:
		case f.Refused != nil:
			u.refused(f.Refused)
		case f.Type == protocol.TypeMore:
			return outOfPlace(f.Type)
		default:
			u.message(f.Message)
		}
		return nil
	case f.Refused != nil:
		return f.Refused
	}
	switch m := f.Message.(type) {
	case *protocol.Cancel:
		if op.cancel != nil {
			op.cancel()
		}
	case *protocol.More:
		if op.credit == nil {
			return outOfPlace(f.Type)
		}
		op.credit.add(m.Frames)
	default:
		return outOfPlace(f.Type)
	}
	return nil
}

// request begins an operation.
func (on *serverStream) request(f frame) error {
	op := &serverOp{on: on, id: f.ID, m: f.Message}
	how, known := on.waysOf(f.Message)
	if f.Refused == nil && !known { // of the handshake
		return outOfPlace(f.Type)
	}
	if f.Refused != nil {
		if on.session.find(f.ID) != nil {
			return outOfPlace(f.Type)
		}
		return on.conn.post(f.ID, failOf(f.Refused))
	}
	op.how = how
	op.weigh(f.Length)
	if err := on.session.begin(op); err != nil {
		if broken, ok := isBroken(err); ok {
			return broken
		}
		return on.conn.post(op.id, failOf(err))
	}
	op.prepare()
	if op.held > 0 && !on.session.small.reserve(op.held, on.conn.dead, nil) {
		op.held = 0
	}
	on.line.add(op, how.changesNames)
	return nil
}
