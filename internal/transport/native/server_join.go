package native

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"transferd/protocol"
)

// join lets a stream into a session (docs/protocol.md, section 6). Whatever is
// wrong before the MAC is found right is refused alike.
func (g *greeting) join(m *protocol.Join) (*serverStream, error) {
	one := g.server.find(m.Session)
	binding := g.stream.conn.Binding
	bound, err := g.bound(one)
	if err != nil {
		return nil, refuseJoin(err)
	}
	var secret [32]byte // of no session: refusing takes as long as comparing
	if one != nil {
		secret = one.secret
	}
	want := joinMAC(&secret, protocol.RoleClient, binding, bound, m)
	if !hmac.Equal(want[:], m.MAC[:]) || one == nil {
		return nil, refuseJoin(errors.New("unknown session or wrong MAC"))
	}
	if err := one.admit(g.stream.conn, m.Stream); err != nil {
		return nil, refuseJoin(err)
	}
	on, err := one.add(g.stream)
	if err != nil {
		return nil, err
	}
	if g.o.Entered != nil {
		if err := g.o.Entered(one.guest.User, false); err != nil {
			one.remove(on)
			return nil, refuseJoin(err)
		}
	}
	g.stream.openWithNext()
	err = g.stream.post(0, &protocol.Joined{MAC: joinMAC(&one.secret, protocol.RoleServer, binding, bound, m)})
	if err != nil {
		one.remove(on)
		return nil, err
	}
	return on, nil
}

// refuseJoin tells nothing of err but to the log.
func refuseJoin(err error) error {
	return &Refusal{Code: protocol.CodeJoin, Message: "this ticket does not do", Err: err}
}

// bound returns what the MACs of a join on this stream are bound to. An SSH
// connection has to be the session's own.
func (g *greeting) bound(one *serverSession) ([]byte, error) {
	conn := g.stream.conn
	if conn.Binding == protocol.BindingTLS {
		return conn.Exporter(protocol.LabelJoin)
	}
	if one == nil {
		return conn.Bound, nil
	}
	if conn.Binding != one.binding {
		return nil, fmt.Errorf("a session of binding %d joined by %d", one.binding, conn.Binding)
	}
	//nolint:exhaustive // TLS is above, and nothing else joins
	switch conn.Binding {
	case protocol.BindingSSH:
		if subtle.ConstantTimeCompare(conn.Bound, one.bound) != 1 {
			return nil, errors.New("another SSH connection than the session's")
		}
		return one.bound, nil
	case protocol.BindingStdio:
		return one.bound, nil
	default:
		return nil, errors.New("nothing that a join could be bound to")
	}
}

func joinMAC(secret *[32]byte, role protocol.Role, b protocol.Binding, bound []byte, m *protocol.Join) (sum [32]byte) {
	h := hmac.New(sha256.New, secret[:])
	h.Write(protocol.JoinMessage(role, b, bound, m.Session, m.Stream))
	h.Sum(sum[:0])
	return sum
}

// admit spends a stream number and asks whether the login is still good where
// the stream comes from.
func (one *serverSession) admit(conn *Stream, number uint32) error {
	one.mu.Lock()
	fresh := one.numbers.spend(number)
	one.mu.Unlock()
	if !fresh {
		return fmt.Errorf("stream number %d cannot be used any more", number)
	}
	if one.guest.Admit == nil {
		return nil
	}
	return one.guest.Admit(conn.Remote.Addr(), time.Now())
}

// joinNumbers remembers which stream numbers are spent: all up to the highest,
// except those of the last JoinWindow that have not come yet. The zero value
// has spent 0, the control stream's.
type joinNumbers struct {
	highest uint32
	below   uint64 // bit n: highest-1-n is spent
}

// spend reports whether n could be used, which it cannot any more then.
func (j *joinNumbers) spend(n uint32) bool {
	if n > j.highest {
		ahead := n - j.highest
		j.below = j.below<<ahead | 1<<(ahead-1)
		j.highest = n
		return true
	}
	behind := j.highest - n
	if behind == 0 || behind > protocol.JoinWindow || j.below&(1<<(behind-1)) != 0 {
		return false
	}
	j.below |= 1 << (behind - 1)
	return true
}
