package sshd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"time"

	"golang.org/x/crypto/ssh"

	"transferd/internal/transport/sftp"
	"transferd/internal/wire"
)

// Serve accepts connections from l until ctx ends or Shutdown is called, then
// closes l and returns nil; connections that are established go on until
// Shutdown. Any other error is the listener's.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if !s.track(l) {
		return l.Close() // Shutdown was faster than the goroutine that calls us
	}
	defer s.untrack(l)
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	// Sessions outlive the accepting: Shutdown ends them in good order.
	base := context.WithoutCancel(ctx)
	var pause time.Duration
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			s.start(base, conn)
		case ctx.Err() != nil || s.isClosing():
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept on %v: %w", l.Addr(), err)
		default:
			// Out of file descriptors, most likely; it passes when others end.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.log.WarnContext(ctx, "accept", "listener", l.Addr().String(), "err", err, "retry_after", pause)
			wait(ctx, pause)
		}
	}
}

// track remembers l for Shutdown, and reports false when that has been called.
func (s *Server) track(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.listeners[l] = struct{}{}
	return true
}

func (s *Server) untrack(l net.Listener) {
	_ = l.Close() // closed already, or given up
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// start serves conn in a goroutine that Shutdown waits for.
func (s *Server) start(ctx context.Context, conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		_ = conn.Close()
		return
	}
	s.running.Go(func() {
		w := wire.New(conn)
		defer func() { <-w.Done() }()
		defer func() { _ = w.Close() }()
		remote := remoteOf(conn.RemoteAddr())
		log := s.log.With("conn", s.serial.Add(1))
		defer recovered(ctx, log)
		s.serveConn(ctx, w, remote, log)
	})
}

// recovered is the last belt: what a peer makes panic ends its own connection
// and nothing else.
func recovered(ctx context.Context, log *slog.Logger) {
	if p := recover(); p != nil {
		log.ErrorContext(ctx, "panic", "cause", fmt.Sprint(p), "stack", string(debug.Stack()))
	}
}

// serveConn returns when everything of the connection has ended.
func (s *Server) serveConn(ctx context.Context, w *wire.Conn, remote netip.AddrPort, log *slog.Logger) {
	log.DebugContext(ctx, "connection accepted", "remote", remote)
	limits := s.limits.Load()
	place := s.handshakes.add(remote.Addr(), limits.Handshakes, w.Abort)
	waiting := true
	leave := func() {
		if waiting {
			waiting = false
			s.handshakes.remove(place)
		}
	}
	defer leave()
	if s.isClosing() {
		return // Shutdown may have looked at the pool before we were in it
	}

	begin := time.Now()
	if limits.HandshakeTimeout > 0 {
		if err := w.SetDeadline(begin.Add(limits.HandshakeTimeout)); err != nil {
			return // it has gone already
		}
	}
	stranger := log.With("remote", remote)
	conn, channels, requests, err := ssh.NewServerConn(w, s.serverConfig(ctx, stranger))
	if err != nil {
		logRefused(ctx, stranger, time.Since(begin), err)
		return
	}
	defer hangUp(conn, channels, requests)
	grant, err := grantOf(conn.Permissions)
	if err != nil {
		log.ErrorContext(ctx, "login without a grant", "err", err)
		return
	}
	log = log.With("user", conn.User())
	if err := s.admission.enter(remote.Addr(), limits); err != nil {
		log.WarnContext(ctx, "connection refused", "remote", remote, "reason", err)
		dismiss(conn, channels, requests, err)
		return
	}
	defer s.admission.leave(remote.Addr())
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
		login:    Login{User: conn.User(), Remote: remote, Grant: grant},
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
	log.InfoContext(ctx, "login", "remote", remote, "key", grant.Fingerprint, "granted_by", grant.Source,
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
	s.mu.Lock()
	s.closing = true
	listeners, conns := s.listeners, s.conns
	s.listeners = map[net.Listener]struct{}{}
	s.conns = map[*connection]struct{}{}
	s.mu.Unlock()
	for l := range listeners {
		_ = l.Close() // Serve reports what is worth it
	}
	s.handshakes.evictAll()
	for c := range conns {
		s.running.Go(func() { c.finish(ctx) })
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.running.Wait()
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
