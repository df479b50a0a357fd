// Package admission is what the servers of transferd share about who comes in:
// the accounts that may log in and what their keys are bound to, the listeners
// that are accepted on, and the bounds on strangers and on guests. It speaks no
// protocol, and knows neither disk nor configuration.
package admission

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/crypto/ssh"

	"transferd/auth"
	"transferd/internal/session"
)

// Accounts knows who may log in and to what. Its methods are called for every
// login, by several goroutines at once.
type Accounts interface {
	// Keys returns the keys that may log in as user, as they are now. For a
	// name that nobody has it returns an error, and takes as long as for others.
	Keys(ctx context.Context, user string) (*auth.AuthorizedKeys, error)

	// Open makes the session of a login that Keys has granted. It is called at
	// most once for a login, when files are wanted; the server calls done when
	// nothing works on the session any more.
	Open(ctx context.Context, l Login) (s *session.Session, done func() error, err error)
}

// A Login is a client that has proved who it is.
type Login struct {
	User   string
	Remote netip.AddrPort
	Key    ssh.PublicKey // what it has proved to hold; a certificate perhaps
	Grant  auth.Grant
}

// Files says whether the login may be used to transfer files, and if not, why:
// a key with a forced command is for that alone.
func (l Login) Files() error {
	if command := l.Grant.ForceCommand; command != "" && command != "internal-sftp" {
		return ErrForced
	}
	return nil
}

// Limits bounds what clients may use. A zero field is no limit.
type Limits struct {
	Connections      int           // that are logged in
	PerSource        int           // of those, from one IPv4 address or IPv6 /64
	Handshakes       int           // that are not logged in yet
	HandshakeTimeout time.Duration // and ForPerson more
	IdleTimeout      time.Duration // without data on any channel
}

// ForPerson is how much longer a handshake may take in which the host has proved
// its key: now a person may compare its fingerprint, look for a passphrase or
// touch a security key. Who only wants to hold places wins little by it: a full
// pool gives them away however young they are.
const ForPerson = 60 * time.Second

// Again returns what decides whether the login may also be used from another
// address, or at another time: by the keys as they are then, so that one that
// was taken away since opens nothing more.
func Again(ctx context.Context, accounts Accounts, l Login) func(remote netip.Addr, now time.Time) error {
	return func(remote netip.Addr, now time.Time) error {
		keys, err := accounts.Keys(ctx, l.User)
		if err != nil {
			return fmt.Errorf("use the login again: %w", err)
		}
		grant, err := keys.Authorize(auth.LoginRequest{
			User: l.User, Key: l.Key, Remote: remote, Now: now,
			// The proof has been judged at the login, and is not given again.
			SeesPresence: true,
		})
		if err != nil {
			return err
		}
		return Login{Grant: grant}.Files() // a command may have been forced on it since
	}
}
