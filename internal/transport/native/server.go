package native

import (
	"context"
	"log/slog"
	"time"
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
}

// A Server owns the sessions of a daemon, whatever listener they came by. It is
// safe for concurrent use.
type Server struct{}

// NewServer returns a Server without sessions.
func NewServer(c ServerConfig) *Server { panic("not built yet") }

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

// Serve serves one stream, control or joining, until it or its session ends,
// and closes it. The handshake ends with ctx or by the deadlines of the caller's
// connection. The error says why the stream ended, nil for an orderly end.
func (s *Server) Serve(ctx context.Context, st *Stream, o ServeOptions) error { panic("not built yet") }

// Shutdown tells every client that the server ends, suspends all uploads and
// returns when no session is left, or with ctx's error after it has cut off
// those that were still there.
func (s *Server) Shutdown(ctx context.Context) error { panic("not built yet") }
