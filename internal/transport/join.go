package transport

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

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
	if err := v.lock(ctx); err != nil {
		return nil, err
	}
	defer v.unlock()
	switch {
	case v.closed:
		return nil, v.closedError()
	case v.s.way == wayTCP:
		return v.joinTCP(ctx, w, v.s.port)
	}
	port := cmp.Or(v.s.tcpPort, int(w.TCPPort))
	if v.s.way == wayAuto && w.TCPPort != 0 && w.TLSKey != [32]byte{} && len(v.s.jump) == 0 && !v.session.closed {
		timed, cancel := context.WithTimeout(ctx, tryTCP+tryTrips*min(v.trip, longestTrip))
		st, err := v.joinTCP(timed, w, port)
		cancel()
		if err == nil && !v.session.open {
			v.session.open = true
			v.log.InfoContext(ctx, "further streams go to the server's TCP port", "server", v.s.label(), "port", port)
		}
		if err == nil || ctx.Err() != nil {
			return st, err
		}
		v.session.closed = true
		v.log.InfoContext(ctx, "the server's TCP port is not reached, so everything goes over SSH",
			"server", v.s.label(), "port", port, "reason", err)
	}
	return v.joinSSH(ctx, w)
}

// joinTCP opens a TLS connection to the machine that the session is with.
func (v *server) joinTCP(ctx context.Context, w *protocol.Welcome, port int) (*native.Stream, error) {
	if w.TLSKey == [32]byte{} {
		return nil, errors.New("the server has no TCP port for further streams")
	}
	via, err := v.passage(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := v.dialAddress(ctx, via, net.JoinHostPort(cmp.Or(v.reached, v.s.host), fmt.Sprint(port)))
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
