// Package sshd is the SSH server: it checks who logs in, bounds what a client
// may hold, and serves SFTP over the session that the account opens. It knows
// neither disk nor configuration, starts no program, and gives nobody a shell.
package sshd

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/ssh"

	"transferd/internal/admission"
	"transferd/internal/transport/native"
	"transferd/internal/transport/sftp"
)

// Config is what a Server is made of. HostKeys, Accounts and Log are needed.
type Config struct {
	HostKeys []ssh.Signer
	Accounts Accounts
	Limits   Limits
	Log      *slog.Logger

	// Handles is how many files and directories all clients together may have
	// open; 0 is no limit. A directory takes two of the process's descriptors.
	Handles int

	// Native serves the subsystem "transfer", beside SFTP; nil: nobody does.
	// Whoever owns it shuts it down before, or at the same time as, the Server.
	Native *native.Server

	// Visitors counts those who are logged in, and numbers connections in the
	// log, together with the other servers that it was given to. Nil: these alone.
	Visitors *admission.Visitors
}

// What a server knows of those who come, whatever they speak.
type (
	// Accounts knows who may log in and to what. Open is called once for a
	// connection, when the first channel wants files.
	Accounts = admission.Accounts

	// A Login is a connection whose client has proved who it is.
	Login = admission.Login

	// Limits bounds what clients may use.
	Limits = admission.Limits
)

// A Server serves SSH on any number of listeners. New makes it; all methods are
// safe for concurrent use.
type Server struct {
	// config
	accounts Accounts
	hostKeys []ssh.Signer
	native   *native.Server // may be nil
	log      *slog.Logger

	// state
	handles    *sftp.Handles // of all connections
	limits     atomic.Pointer[Limits]
	door       *admission.Door
	handshakes *admission.Pool
	visitors   *admission.Visitors

	mu      sync.Mutex // guards what follows
	closing bool
	conns   map[*connection]struct{} // that are logged in
}

// New returns a server that serves nothing yet.
func New(c Config) (*Server, error) {
	if len(c.HostKeys) == 0 {
		return nil, errors.New("sshd: no host key")
	}
	s := &Server{
		accounts:   c.Accounts,
		hostKeys:   c.HostKeys,
		log:        c.Log,
		handles:    sftp.NewHandles(c.Handles, nil),
		native:     c.Native,
		door:       admission.NewDoor(c.Log),
		handshakes: admission.NewPool(),
		visitors:   c.Visitors,
		conns:      map[*connection]struct{}{},
	}
	if s.visitors == nil {
		s.visitors = admission.NewVisitors()
	}
	s.limits.Store(&c.Limits)
	return s, nil
}

// SetLimits changes the limits. Connections that are beyond the new ones stay.
func (s *Server) SetLimits(l Limits) { s.limits.Store(&l) }
