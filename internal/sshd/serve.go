package sshd

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"transferd/internal/admission"
	"transferd/internal/transport/sftp"
	"transferd/internal/wire"
)

// Serve accepts connections from l until ctx ends or Shutdown is called, then
// closes l and returns nil; connections that are established go on until
// Shutdown. Any other error is the listener's.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	return s.door.Serve(ctx, l, s.start)
}

// start serves conn, and returns when nothing of it is left.
func (s *Server) start(ctx context.Context, conn net.Conn) {
	wire.Tune(conn)
	w := wire.New(conn)
	defer func() { <-w.Done() }()
	defer func() { _ = w.Close() }()
	remote := admission.RemoteOf(conn.RemoteAddr())
	log := s.log.With("conn", s.visitors.Number())
	defer admission.Recovered(ctx, log)
	s.serveConn(ctx, w, remote, log)
}

// serveConn returns when everything of the connection has ended.
func (s *Server) serveConn(ctx context.Context, w *wire.Conn, remote netip.AddrPort, log *slog.Logger) {
	log.DebugContext(ctx, "connection accepted", "remote", remote)
	limits := s.limits.Load()
	place := s.handshakes.Add(remote.Addr(), limits.Handshakes, w.Abort)
	waiting := true
	leave := func() {
		if waiting {
			waiting = false
			s.handshakes.Remove(place)
		}
	}
	defer leave()
	if s.door.Closed() {
		return // Shutdown may have looked at the pool before we were in it
	}

	begin := time.Now()
	shown := func() {}
	if limits.HandshakeTimeout > 0 {
		end := begin.Add(limits.HandshakeTimeout)
		if err := w.SetDeadline(end); err != nil {
			return // it has gone already
		}
		// Keys are exchanged again later, when there is no deadline any more.
		shown = sync.OnceFunc(func() { _ = w.SetDeadline(end.Add(admission.ForPerson)) }) // or it has gone
	}
	stranger := log.With("remote", remote)
	conn, channels, requests, err := ssh.NewServerConn(w, s.serverConfig(ctx, stranger, shown))
	if err != nil {
		logRefused(ctx, stranger, time.Since(begin), err)
		return
	}
	defer hangUp(conn, channels, requests)
	proved, err := provedBy(conn.Permissions)
	if err != nil {
		log.ErrorContext(ctx, "login without a grant", "err", err)
		return
	}
	log = log.With("user", conn.User())
	if err := s.visitors.Enter(remote.Addr(), limits); err != nil {
		log.WarnContext(ctx, "connection refused", "remote", remote, "reason", err)
		dismiss(conn, channels, requests, err)
		return
	}
	defer s.visitors.Leave(remote.Addr())
	leave()
	w.Grow()
	if err := w.SetDeadline(time.Time{}); err != nil {
		log.DebugContext(ctx, "connection lost at login", "err", err)
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := &connection{
		server:   s,
		wire:     w,
		conn:     conn,
		login:    Login{User: conn.User(), Remote: remote, Key: proved.key, Grant: proved.grant},
		log:      log,
		cut:      func() { cancel(); _ = conn.Close() },
		data:     newMoment(),
		handles:  sftp.NewHandles(maxHandles, s.handles),
		gone:     make(chan struct{}),
		channels: map[*channel]struct{}{},
	}
	if !s.enlist(c) {
		return
	}
	defer s.delist(c)
	log.InfoContext(ctx, "login", "remote", remote, "key", proved.grant.Fingerprint, "granted_by", proved.grant.Source,
		"client", string(conn.ClientVersion()))
	c.serve(ctx, channels, requests)
	log.InfoContext(ctx, "logout", "seconds", time.Since(begin).Seconds())
}

// enlist makes Shutdown know c, and reports false when it has been called.
func (s *Server) enlist(c *connection) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) delist(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// Shutdown stops accepting, ends handshakes, and lets every channel come to an
// end: running requests finish, what a client has sent is taken, then its
// channel is closed. When ctx ends first it cuts what is left, and returns
// ctx's error when that has ended too, or after cutGrace. It returns nil if there
// was nobody left to be cut.
func (s *Server) Shutdown(ctx context.Context) error {
	s.door.Close()
	s.handshakes.EvictAll()
	s.mu.Lock()
	s.closing = true
	conns := s.conns
	s.conns = map[*connection]struct{}{}
	s.mu.Unlock()
	var finishing sync.WaitGroup
	for c := range conns {
		finishing.Go(func() { c.finish(ctx) })
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		finishing.Wait()
		<-s.door.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	cut := 0
	for c := range conns {
		select {
		case <-c.gone:
		default:
			cut++
			c.cut()
		}
	}
	timer := time.NewTimer(cutGrace)
	defer timer.Stop()
	select {
	case <-done:
		if cut == 0 {
			return nil
		}
	case <-timer.C: // a disk that hangs, which nothing here can help
	}
	return fmt.Errorf("shutdown: %w", ctx.Err())
}

// cutGrace is how long Shutdown waits for what it has cut.
const cutGrace = 5 * time.Second

// wait returns after d, or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
