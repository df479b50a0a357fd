package tcpd

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"transferd/internal/admission"
	"transferd/internal/transport/native"
	"transferd/internal/wire"
	"transferd/protocol"
)

// A visit is one connection: the control stream of a session, one that joins
// a session, or somebody who gets no further. It is the native.Gatekeeper of
// its connection.
type visit struct {
	server *Server
	wire   *wire.Conn
	remote netip.AddrPort
	log    *slog.Logger
	begin  time.Time

	mu      sync.Mutex // guards what follows
	place   *admission.Place
	refused *admission.Refusal // the last one
	login   Login
	done    func() // gives the session back; nil: it was not opened
	entered bool
	control bool // entered with a session, whose end Guest.Done tells
}

// serve returns when the connection has ended, and with it its session.
func (v *visit) serve(ctx context.Context) {
	s := v.server
	limits := s.limits.Load()
	v.place = s.pool.Add(v.remote.Addr(), limits.Handshakes, v.wire.Abort)
	defer v.leavePool()
	if s.door.Closed() {
		return // Shutdown may have looked at the pool before we were in it
	}
	if limits.HandshakeTimeout > 0 {
		if err := v.wire.SetReadDeadline(v.begin.Add(limits.HandshakeTimeout)); err != nil {
			return // it has gone already
		}
	}
	conn := &stream{Conn: tls.Server(quietConn{v.wire}, s.tls), wire: v.wire}
	defer conn.closing.Wait()
	defer func() { _ = conn.Close() }() // never fails
	if err := conn.HandshakeContext(ctx); err != nil {
		// Scanners, health checks, and whoever speaks something else.
		v.log.DebugContext(ctx, "no TLS", "remote", v.remote, "err", admission.Brief(err))
		return
	}
	if !s.enlist(v) {
		return
	}
	defer s.delist(v)
	err := s.native.Serve(ctx, conn.native(v.remote), native.ServeOptions{
		Gate:    v,
		Entered: func(user string, control bool) error { return v.enter(ctx, user, control) },
	})
	v.left(ctx, err)
}

// waitForPerson gives the handshake more time.
func (v *visit) waitForPerson() {
	if limit := v.server.limits.Load().HandshakeTimeout; limit > 0 {
		_ = v.wire.SetReadDeadline(v.begin.Add(limit + admission.ForPerson)) // or it has gone
	}
}

// enter is called when the handshake is over.
func (v *visit) enter(ctx context.Context, user string, control bool) error {
	if control {
		if err := v.server.visitors.Enter(v.remote.Addr(), v.server.limits.Load()); err != nil {
			v.log.WarnContext(ctx, "connection refused", "user", admission.Short(user), "remote", v.remote, "reason", err)
			return &native.Refusal{Code: protocol.CodeLimit, Message: err.Error()}
		}
	}
	v.mu.Lock()
	v.entered, v.control = true, control
	login := v.login
	v.mu.Unlock()
	v.leavePool()
	if control {
		v.log.InfoContext(ctx, "login", "user", user, "remote", v.remote, "key", login.Grant.Fingerprint,
			"granted_by", login.Grant.Source, "transport", "tcp")
	} else {
		v.log.DebugContext(ctx, "stream joined", "user", user, "remote", v.remote)
	}
	return nil
}

// left tells how the visit was, and gives back what it has left.
func (v *visit) left(ctx context.Context, err error) {
	v.mu.Lock()
	entered, control, refused, login, done := v.entered, v.control, v.refused, v.login, v.done
	v.mu.Unlock()
	log := v.log.With("remote", v.remote, "seconds", time.Since(v.begin).Seconds())
	if control {
		v.server.visitors.Leave(v.remote.Addr())
	} else if done != nil {
		done()
	}
	switch {
	case control:
		if err != nil {
			log = log.With("err", admission.Brief(err))
		}
		log.InfoContext(ctx, "logout", "user", login.User)
	case entered:
		log.DebugContext(ctx, "joined stream ended", "err", err)
	case refused != nil:
		refused.Log(ctx, log)
	case err != nil:
		log.DebugContext(ctx, "no login", "err", admission.Brief(err))
	}
}

// leavePool makes room for the next stranger.
func (v *visit) leavePool() {
	v.mu.Lock()
	place := v.place
	v.place = nil
	v.mu.Unlock()
	if place != nil {
		v.server.pool.Remove(place)
	}
}
