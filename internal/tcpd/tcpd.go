// Package tcpd is the raw TCP listener: TLS in which both sides prove the
// identities that they have in SSH, and the bounds on who tries to. What is
// behind that it hands to the native server. It knows neither disk nor
// configuration.
package tcpd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"transferd/internal/admission"
	"transferd/internal/transport/native"
	"transferd/internal/wire"
)

// Config is what a Server is made of. All but Limits, Visitors and Software is
// needed.
type Config struct {
	// HostKeys are the keys and host certificates of the host, the best liked
	// first. A client gets the first one that it knows the algorithm of.
	HostKeys []ssh.Signer

	Accounts Accounts
	Limits   Limits
	Log      *slog.Logger

	// Native serves what comes in. Its TLSKey is that of Certificate. Whoever
	// owns it shuts it down before, or at the same time as, the Server.
	Native *native.Server

	Certificate *Certificate

	// Visitors counts those who are logged in, and numbers connections in the
	// log, together with the other servers that it was given to. Nil: these alone.
	Visitors *admission.Visitors
}

// What a server knows of those who come, whatever they speak.
type (
	// Accounts knows who may log in and to what. Open is called once for a
	// session.
	Accounts = admission.Accounts

	// A Login is a session whose client has proved who it is.
	Login = admission.Login

	// Limits bounds what clients may use. The connections of one session count
	// as one, and IdleTimeout is the native server's.
	Limits = admission.Limits
)

// A Server serves the native protocol over TCP on any number of listeners. New
// makes it; all methods are safe for concurrent use.
type Server struct {
	// config
	hostKeys []hostKey
	accounts Accounts
	native   streamServer
	tls      tlsServer
	log      *slog.Logger

	// state
	limits   atomic.Pointer[Limits]
	door     *admission.Door
	pool     *admission.Pool // of those who are not logged in yet
	visitors *admission.Visitors

	mu     sync.Mutex // guards what follows
	inside map[*visit]struct{}
	cut    bool // nobody may come inside any more
}

// A streamServer is what a Server wants of a native.Server.
type streamServer interface {
	Serve(ctx context.Context, st *native.Stream, o native.ServeOptions) error
}

// New returns a server that serves nothing yet.
func New(c Config) (*Server, error) {
	if c.Native == nil || c.Certificate == nil {
		return nil, errors.New("tcpd: no native server, or no certificate")
	}
	return newServer(c, c.Native)
}

func newServer(c Config, streams streamServer) (*Server, error) {
	s := &Server{
		accounts: c.Accounts,
		native:   streams,
		tls:      newTLSServer(c.Certificate),
		log:      c.Log,
		door:     admission.NewDoor(c.Log),
		pool:     admission.NewPool(),
		visitors: c.Visitors,
		inside:   map[*visit]struct{}{},
	}
	for _, signer := range c.HostKeys {
		key, err := newHostKey(signer)
		if err != nil {
			return nil, fmt.Errorf("tcpd: %w", err)
		}
		s.hostKeys = append(s.hostKeys, key...)
	}
	if len(s.hostKeys) == 0 {
		return nil, errors.New("tcpd: no host key")
	}
	if s.visitors == nil {
		s.visitors = admission.NewVisitors()
	}
	s.limits.Store(&c.Limits)
	return s, nil
}

// SetLimits changes the limits. Sessions that are beyond the new ones stay.
func (s *Server) SetLimits(l Limits) { s.limits.Store(&l) }

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
	log := s.log.With("conn", s.visitors.Number())
	defer admission.Recovered(ctx, log)
	remote := admission.RemoteOf(conn.RemoteAddr())
	log.DebugContext(ctx, "connection accepted", "remote", remote)
	v := &visit{server: s, wire: w, remote: remote, log: log, begin: time.Now()}
	v.serve(ctx)
}

// cutGrace is how long Shutdown waits for what it has cut.
const cutGrace = 5 * time.Second

// Shutdown stops accepting, ends handshakes, and waits until the native server,
// which is shut down beside it, has ended every stream. When ctx ends first it
// cuts those that are left, and returns ctx's error when they have ended too, or
// after cutGrace.
func (s *Server) Shutdown(ctx context.Context) error {
	s.door.Close()
	s.pool.EvictAll()
	done := s.door.Wait()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	s.cut = true
	for v := range s.inside {
		v.wire.Abort()
	}
	s.mu.Unlock()
	timer := time.NewTimer(cutGrace)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C: // a disk that hangs, which nothing here can help
	}
	return fmt.Errorf("shutdown: %w", ctx.Err())
}

// enlist makes Shutdown know v, and reports false when that has cut everybody.
func (s *Server) enlist(v *visit) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		return false
	}
	s.inside[v] = struct{}{}
	return true
}

func (s *Server) delist(v *visit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.inside, v)
}
