// Package sshd is the SSH server: it checks who logs in, bounds what a client
// may hold, and serves SFTP over the session that the account opens. It knows
// neither disk nor configuration, starts no program, and gives nobody a shell.
package sshd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"transferd/auth"
	"transferd/internal/session"
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
}

// Accounts knows who may log in and to what. Its methods are called for every
// login, by several goroutines at once.
type Accounts interface {
	// Keys returns the keys that may log in as user, as they are now. For a
	// name that nobody has it returns an error, and takes as long as for others.
	Keys(ctx context.Context, user string) (*auth.AuthorizedKeys, error)

	// Open makes the session of a login that Keys has granted. It is called
	// once for a connection, when the first channel wants files; the Server
	// calls done when the last channel has ended.
	Open(ctx context.Context, l Login) (s *session.Session, done func() error, err error)
}

// A Login is a connection whose client has proved who it is.
type Login struct {
	User   string
	Remote netip.AddrPort
	Grant  auth.Grant
}

// Limits bounds what clients may use. A zero field is no limit.
type Limits struct {
	Connections      int // that are logged in
	PerSource        int // of those, from one IPv4 address or IPv6 /64
	Handshakes       int // that are not logged in yet
	HandshakeTimeout time.Duration
	IdleTimeout      time.Duration // without data on any channel
}

// A Server serves SSH on any number of listeners. New makes it; all methods are
// safe for concurrent use.
type Server struct {
	// config
	accounts Accounts
	hostKeys []ssh.Signer
	log      *slog.Logger

	// state
	handles    *sftp.Handles // of all connections
	limits     atomic.Pointer[Limits]
	handshakes *handshakes
	admission  *admission
	serial     atomic.Uint64 // of connections, for the log
	running    sync.WaitGroup

	mu        sync.Mutex // guards what follows
	closing   bool
	listeners map[net.Listener]struct{}
	conns     map[*connection]struct{} // that are logged in
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
		handshakes: newHandshakes(),
		admission:  newAdmission(),
		listeners:  map[net.Listener]struct{}{},
		conns:      map[*connection]struct{}{},
	}
	s.limits.Store(&c.Limits)
	return s, nil
}

// SetLimits changes the limits. Connections that are beyond the new ones stay.
func (s *Server) SetLimits(l Limits) { s.limits.Store(&l) }
