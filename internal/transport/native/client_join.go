package native

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"

	"transferd/internal/tree"
	"transferd/protocol"
)

var (
	errFull     = errors.New("the session has as many streams as it may have")
	errImpostor = errors.New("the other end of a further stream does not have the session's secret")
)

// move gives a session over SSH a stream over TCP, where the server says that it
// has a port for that. What files hold goes that way from then on; requests,
// which are small, stay where they are.
func (s *clientSession) move(ctx context.Context) {
	if s.c.o.Data == nil || s.welcome.TCPPort == 0 {
		return
	}
	s.aside.Store(true)
	if err := s.joinBy(ctx, s.c.o.Data); err != nil {
		s.aside.Store(false)
		s.c.o.Log.DebugContext(ctx, "files stay with the control stream", "server", s.c.o.Label, "err", err)
	}
}

// join dials one more stream and adds it to the session. An error leaves the
// session as it was.
func (s *clientSession) join(ctx context.Context) error { return s.joinBy(ctx, s.c.o.Join) }

func (s *clientSession) joinBy(ctx context.Context, dial func(context.Context, *protocol.Welcome) (*Stream, error)) error {
	s.mu.Lock()
	full := len(s.lanes) >= s.maxStreams()
	s.nextStream++
	number := s.nextStream
	s.mu.Unlock()
	if full {
		return errFull
	}
	public := *s.welcome
	public.Secret = [32]byte{} // nobody who dials needs it
	conn, err := dial(ctx, &public)
	if err != nil {
		return err
	}
	st := newStream(conn, protocol.FromServer)
	stop := context.AfterFunc(ctx, func() { st.fail(ctx.Err()) })
	err = s.introduce(ctx, st, number)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = s.add(newLane(s, st, number))
	}
	if err != nil {
		st.Close()
	}
	return err
}

// introduce is the handshake of a stream that joins.
func (s *clientSession) introduce(ctx context.Context, st *stream, number uint32) error {
	bound := st.conn.Bound
	if st.conn.Binding == protocol.BindingTLS {
		var err error
		if bound, err = st.conn.Exporter(protocol.LabelJoin); err != nil {
			return err
		}
	} else if st.conn.Binding != s.welcome.Binding {
		return fmt.Errorf("the server takes no further streams over %s", st.conn.Transport)
	}
	if st.conn.Binding == protocol.BindingStdio {
		bound = s.bound
	}
	join := &protocol.Join{
		Session: s.welcome.Session,
		Stream:  number,
		MAC:     s.mac(protocol.RoleClient, st.conn.Binding, bound, number),
	}
	if err := st.sendPreface(); err != nil {
		return err
	}
	if err := st.send(ctx, 0, join); err != nil {
		return err
	}
	if err := awaitPreface(st, s.c.o.Patience); err != nil {
		return err
	}
	m, err := nextOf(st, protocol.TypeJoined)
	if err != nil {
		return err
	}
	theirs, ours := m.(*protocol.Joined).MAC, s.mac(protocol.RoleServer, st.conn.Binding, bound, number)
	if !hmac.Equal(theirs[:], ours[:]) {
		return errImpostor
	}
	st.open()
	return nil
}

func (s *clientSession) mac(role protocol.Role, b protocol.Binding, bound []byte, number uint32) (sum [32]byte) {
	h := hmac.New(sha256.New, s.welcome.Secret[:])
	h.Write(protocol.JoinMessage(role, b, bound, s.welcome.Session, number))
	h.Sum(sum[:0])
	return sum
}

// add makes l one of the session's lanes.
func (s *clientSession) add(l *lane) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return s.err
	case len(s.lanes) >= s.maxStreams():
		return errFull
	case !s.c.spawn(l.read):
		return tree.ErrClosed
	}
	s.lanes = append(s.lanes, l)
	s.c.o.Log.Debug("native stream joined", "server", s.c.o.Label, "stream", l.number, "transport", l.conn.Transport)
	return nil
}
