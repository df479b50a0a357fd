package native

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"transferd/protocol"
)

// ServerConfig is what a Server is made of. Log is needed.
type ServerConfig struct {
	Software string
	Log      *slog.Logger

	// TLSKey is the SHA-256 of the SubjectPublicKeyInfo of the certificate that
	// the TCP listeners show, and TCPPort where joins may come; zero: nowhere.
	TLSKey  [32]byte
	TCPPort func() uint16

	// IdleTimeout is asked whenever a session is looked at; 0 is no limit.
	IdleTimeout func() time.Duration

	Handles int // that all sessions together may have open; 0: no limit

	// Expiry is how long a partial is kept without a writer, which clients are
	// told; 0 is for ever. Nil: 0. Who removes them is the tree's owner.
	Expiry func() time.Duration
}

// A Server owns the sessions of a daemon, whatever listener they came by. It is
// safe for concurrent use.
type Server struct {
	c        ServerConfig
	payloads payloads
	chunks   *chunkPool // memory of uploads
	small    *chunkPool // memory of PUT and WRITE that wait for the disk
	pieces   sync.Pool  // *[]byte, each of readPiece bytes
	handles  counter

	mu       sync.Mutex
	sessions map[[16]byte]*serverSession
	greeting map[*stream]struct{} // streams whose handshake is going on
	closing  bool
	serving  sync.WaitGroup // calls of Serve; grows under mu and not while closing
}

// NewServer returns a Server without sessions.
func NewServer(c ServerConfig) *Server {
	return &Server{
		c:        c,
		chunks:   newChunkPool(poolBytes),
		small:    newChunkPool(smallBytes),
		handles:  counter{limit: c.Handles},
		sessions: map[[16]byte]*serverSession{},
		greeting: map[*stream]struct{}{},
	}
}

// ServeOptions say who is at the other end of a stream. Exactly one of Guest
// and Gate is set.
type ServeOptions struct {
	// Guest opens the session of a peer that is known already (SSH, stdio); it
	// is called if the stream turns out to be a control stream.
	Guest func(ctx context.Context) (Guest, error)

	// Gate finds out who the peer is (TCP).
	Gate Gatekeeper

	// Entered is called when the handshake is over: with control when a session
	// has begun, without when a stream has joined one. An error refuses the
	// peer. May be nil.
	Entered func(user string, control bool) error

	// Named hears the name of the session that begins on this stream, before
	// the client does: stdio makes the door for further streams by it. May be
	// nil.
	Named func(session [16]byte)
}

// errShutdown is the end of what a server does not serve any more.
var errShutdown = errors.New("the server ends")

// Serve serves one stream, control or joining, until it or its session ends,
// and closes it. The handshake ends with ctx or by the deadlines of the caller's
// connection. The error says why the stream ended, nil for an orderly end.
func (s *Server) Serve(ctx context.Context, st *Stream, o ServeOptions) (err error) {
	conn := newStream(st, protocol.FromClient)
	defer conn.Close()
	defer func() {
		if p := recover(); p != nil {
			s.c.Log.ErrorContext(ctx, "native stream panicked", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	if err := conn.sendPreface(); err != nil {
		return err
	}
	if !s.enter(conn) {
		conn.goodbye(protocol.CodeShutdown, errShutdown.Error())
		return errShutdown
	}
	defer s.serving.Done()
	on, err := s.greet(ctx, conn, &o)
	if err != nil {
		return s.turnAway(ctx, conn, err)
	}
	return on.serve() //nolint:contextcheck // ctx is the handshake's
}

// greet is the handshake.
func (s *Server) greet(ctx context.Context, conn *stream, o *ServeOptions) (*serverStream, error) {
	defer s.greeted(conn)
	defer context.AfterFunc(ctx, conn.Close)()
	return (&greeting{server: s, stream: conn, o: o}).run(ctx)
}

// turnAway tells the peer why it does not get in, as far as it may know that.
func (s *Server) turnAway(ctx context.Context, conn *stream, err error) error {
	var refusal *Refusal
	if broken, ok := isBroken(err); ok {
		conn.goodbye(broken.Code, broken.Error())
		return err
	}
	switch {
	case errors.As(err, &refusal):
		if refusal.Err != nil {
			s.c.Log.DebugContext(ctx, "native peer refused", "code", refusal.Code.String(), "error", refusal.Err)
		}
		conn.goodbye(refusal.Code, refusal.Message)
	case conn.cause() == nil:
		conn.goodbye(protocol.CodeFailure, "the server cannot do that now")
	}
	return err
}

// enter counts a stream in, unless the server is closing.
func (s *Server) enter(conn *stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.serving.Add(1)
	s.greeting[conn] = struct{}{}
	return true
}

func (s *Server) greeted(conn *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.greeting, conn)
}

// register makes a session findable by joins.
func (s *Server) register(one *serverSession) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return &Refusal{Code: protocol.CodeShutdown, Message: errShutdown.Error()}
	}
	s.sessions[one.name] = one
	return nil
}

func (s *Server) unregister(one *serverSession) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, one.name)
}

// find returns the session called name, nil where there is none.
func (s *Server) find(name [16]byte) *serverSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[name]
}

// Shutdown tells every client that the server ends, suspends all uploads and
// returns when no session is left, or with ctx's error after it has cut off
// those that were still there.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	var group sync.WaitGroup
	for conn := range s.greeting {
		group.Go(func() { conn.goodbye(protocol.CodeShutdown, errShutdown.Error()) })
	}
	for _, one := range s.sessions {
		group.Go(func() { one.shutDown(ctx) })
	}
	s.mu.Unlock()
	over := make(chan struct{})
	go func() {
		defer close(over)
		group.Wait()
		s.serving.Wait()
	}()
	select {
	case <-over:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	for conn := range s.greeting {
		go conn.Close()
	}
	for _, one := range s.sessions {
		go one.cut()
	}
	s.mu.Unlock()
	return ctx.Err()
}
