package sshd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"golang.org/x/crypto/ssh"

	"transferd/auth"
	"transferd/internal/admission"
)

// version is what the server says it is, before anything else.
const version = "SSH-2.0-transferd"

// maxAuthTries is how many keys a client may try, as in OpenSSH.
const maxAuthTries = 6

// provedKey is where the callbacks leave what was proved in
// ssh.Permissions.ExtraData.
type provedKey struct{}

// A proved is a key that its client has proved to hold, and what it opens.
type proved struct {
	key   ssh.PublicKey
	grant auth.Grant
}

// serverConfig returns the rules of one handshake. Neither an unknown user nor
// a wrong key gets an answer that the other would not get. shown is called when
// the host proves its key.
func (s *Server) serverConfig(ctx context.Context, log *slog.Logger, shown func()) *ssh.ServerConfig {
	offered := auth.ServerAlgorithms()
	config := &ssh.ServerConfig{
		Config: ssh.Config{
			KeyExchanges: offered.KeyExchanges,
			Ciphers:      offered.Ciphers,
			MACs:         offered.MACs,
		},
		PublicKeyAuthAlgorithms: offered.PublicKeyAuths,
		MaxAuthTries:            maxAuthTries,
		ServerVersion:           version,

		// This one answers whether a key would do. It proves nothing yet, so
		// it gives no identity: only what verifying the signature needs.
		PublicKeyCallback: func(conn ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			grant, err := s.authorize(ctx, conn, key)
			if err != nil {
				log.DebugContext(ctx, "key refused", "user", admission.Short(conn.User()), "key", auth.Fingerprint(key), "reason", admission.Brief(err))
				return nil, err
			}
			perms := &ssh.Permissions{}
			if grant.NoTouchRequired {
				perms.Extensions = map[string]string{"no-touch-required": ""}
			}
			return perms, nil
		},

		// The client has proved to hold the key. Whether it may log in is asked
		// again, because time has passed and x/crypto caches the first answer.
		VerifiedPublicKeyCallback: func(conn ssh.ConnMetadata, key ssh.PublicKey, perms *ssh.Permissions, _ string) (*ssh.Permissions, error) {
			grant, err := s.authorize(ctx, conn, key)
			if err != nil {
				return nil, err
			}
			return &ssh.Permissions{
				Extensions: perms.Extensions,
				ExtraData:  map[any]any{provedKey{}: proved{key, grant}},
			}, nil
		},
	}
	for _, key := range s.hostKeys {
		config.AddHostKey(patient(key, shown))
	}
	return config
}

// authorize asks whether key may log in as the user that conn names. Its error
// is a *admission.Refusal.
func (s *Server) authorize(ctx context.Context, conn ssh.ConnMetadata, key ssh.PublicKey) (auth.Grant, error) {
	var grant auth.Grant
	keys, err := s.accounts.Keys(ctx, conn.User())
	if err == nil {
		grant, err = keys.Authorize(auth.LoginRequest{
			User:   conn.User(),
			Key:    key,
			Remote: admission.RemoteOf(conn.RemoteAddr()).Addr(),
			Now:    time.Now(),
		})
	}
	if err != nil {
		return auth.Grant{}, &admission.Refusal{User: conn.User(), Key: auth.Fingerprint(key), Reason: err}
	}
	return grant, nil
}

// provedBy returns what VerifiedPublicKeyCallback has left.
func provedBy(perms *ssh.Permissions) (proved, error) {
	if perms != nil {
		if p, ok := perms.ExtraData[provedKey{}].(proved); ok {
			return p, nil
		}
	}
	return proved{}, fmt.Errorf("%w: no grant", auth.ErrAuth)
}

// logRefused tells of a login that did not come about, by the last key that was
// refused. Scanners and health checks, which just hang up, are not worth a line.
func logRefused(ctx context.Context, log *slog.Logger, took time.Duration, err error) {
	var (
		all  *ssh.ServerAuthError
		last *admission.Refusal
	)
	if errors.As(err, &all) {
		for _, one := range all.Errors {
			_ = errors.As(one, &last) // others are of no interest
		}
	}
	log = log.With("seconds", took.Seconds())
	switch {
	case last != nil:
		last.Log(ctx, log)
	case errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed):
		log.DebugContext(ctx, "no login", "err", err)
	default:
		log.InfoContext(ctx, "no login", "err", admission.Brief(err))
	}
}
