package transport

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/crypto/ssh"

	"transferd/internal/transport/native"
	"transferd/internal/tree"
	"transferd/protocol"
)

// A session is what further streams of our protocol join. The server's lock
// guards it.
type session struct {
	link   *link // of a session over SSH
	road   road  // likewise
	open   bool  // its TCP port has been reached
	closed bool  // it is not to be reached
}

// How long the TCP port of a session over SSH is tried: what a firewall drops is
// noticed by nothing but the time (docs/protocol.md, section 6).
const (
	tryTCP      = 300 * time.Millisecond
	tryTrips    = 3
	longestTrip = 2 * time.Second // dialling may have tried other addresses first
)

// join is native.ClientOptions.Join.
func (v *server) join(ctx context.Context, w *protocol.Welcome) (*native.Stream, error) {
	if v.s.way == wayTCP {
		return v.joinTCP(ctx, w, v.s.port)
	}
	st, err := v.joinData(ctx, w)
	if err == nil || ctx.Err() != nil {
		return st, err
	}
	if err := v.lock(ctx); err != nil {
		return nil, err
	}
	defer v.unlock()
	if v.closed {
		return nil, v.closedError()
	}
	return v.joinSSH(ctx, w)
}

// errNotTried says that further streams cannot or shall not go over TCP.
var errNotTried = errors.New("the TCP port is not tried")

// joinData is native.ClientOptions.Data. The lock is not held while the port is
// tried: nothing has to wait for that.
func (v *server) joinData(ctx context.Context, w *protocol.Welcome) (*native.Stream, error) {
	if v.s.way != wayAuto || w.TCPPort == 0 || w.TLSKey == [32]byte{} || len(v.s.jump) > 0 {
		return nil, errNotTried
	}
	if err := v.lock(ctx); err != nil {
		return nil, err
	}
	link, closed, trip := v.session.link, v.session.closed, min(v.trip, longestTrip)
	v.unlock()
	if closed {
		return nil, errNotTried
	}
	port := cmp.Or(v.s.tcpPort, int(w.TCPPort))
	timed, cancel := context.WithTimeout(ctx, tryTCP+tryTrips*trip)
	defer cancel()
	st, err := v.joinTCP(timed, w, port)
	if ctx.Err() != nil {
		return st, err
	}
	if locked := v.lock(ctx); locked != nil {
		return st, err
	}
	defer v.unlock()
	switch s := &v.session; {
	case s.link != link: // it is another session's by now
	case err != nil && !s.closed:
		s.closed = true
		v.log.InfoContext(ctx, "the server's TCP port is not reached, so everything goes over SSH",
			"server", v.s.label(), "port", port, "reason", err)
	case err == nil && !s.open:
		s.open = true
		v.log.InfoContext(ctx, "files go to the server's TCP port", "server", v.s.label(), "port", port)
	}
	return st, err
}

// joinTCP opens a TLS connection to the machine that the session is with.
func (v *server) joinTCP(ctx context.Context, w *protocol.Welcome, port int) (*native.Stream, error) {
	if w.TLSKey == [32]byte{} {
		return nil, errors.New("the server has no TCP port for further streams")
	}
	via, host, err := v.wayToPeer(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := v.dialAddress(ctx, via, net.JoinHostPort(host, fmt.Sprint(port)))
	if err != nil {
		return nil, err
	}
	timed, cancel := v.timed(ctx)
	defer cancel()
	c, err := startTLS(timed, conn, &w.TLSKey, &v.streams)
	if err != nil {
		return nil, fmt.Errorf("join the session at port %d: %w", port, err)
	}
	v.log.DebugContext(ctx, "stream opened", "server", v.s.label(), "address", c.RemoteAddr().String())
	return c.stream(), nil
}

// wayToPeer returns how the machine is reached that the session is with: which
// of several with one name it is, is known since the first connection.
func (v *server) wayToPeer(ctx context.Context) (via *ssh.Client, host string, err error) {
	if err := v.lock(ctx); err != nil {
		return nil, "", err
	}
	defer v.unlock()
	if v.closed {
		return nil, "", v.closedError()
	}
	via, err = v.passage(ctx)
	return via, cmp.Or(v.reached, v.s.host), err
}

// joinSSH opens a further channel of the session's SSH connection.
func (v *server) joinSSH(ctx context.Context, w *protocol.Welcome) (*native.Stream, error) {
	s := v.session
	if s.link == nil || !s.link.alive() {
		return nil, fmt.Errorf("%s: %w", v.s.label(), tree.ErrLost)
	}
	if _, room := s.link.load(); !room {
		return nil, errors.New("the server allows no more channels (MaxSessions)")
	}
	r, what := s.road, s.road.join
	if w.Binding != r.binding {
		// sshd may have a subsystem that starts transferd stdio.
		for _, other := range v.roads() {
			if other.binding == w.Binding {
				r, what = other, other.join
			}
		}
	}
	if w.Binding != r.binding {
		return nil, errors.New("the server takes no further channels")
	}
	st, err := v.openStream(ctx, s.link, r, what)
	if err != nil {
		return nil, fmt.Errorf("open a channel to %s: %w", v.s.label(), err)
	}
	v.log.DebugContext(ctx, "stream opened", "server", v.s.label(), "by", r.name)
	return st, nil
}
