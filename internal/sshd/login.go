package sshd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"golang.org/x/crypto/ssh"

	"transferd/auth"
)

// version is what the server says it is, before anything else.
const version = "SSH-2.0-transferd"

// maxAuthTries is how many keys a client may try, as in OpenSSH.
const maxAuthTries = 6

// grantKey is where the callbacks leave the grant in ssh.Permissions.ExtraData.
type grantKey struct{}

// A refusal is why a key did not do. It is for the log; the client only learns
// that there was one.
type refusal struct {
	user, key string
	reason    error
}

func (r *refusal) Error() string { return "login refused" }

// serverConfig returns the rules of one handshake. Neither an unknown user nor
// a wrong key gets an answer that the other would not get.
func (s *Server) serverConfig(ctx context.Context, log *slog.Logger) *ssh.ServerConfig {
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
				log.DebugContext(ctx, "key refused", "user", short(conn.User()), "key", auth.Fingerprint(key), "reason", brief(err))
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
				ExtraData:  map[any]any{grantKey{}: grant},
			}, nil
		},
	}
	for _, key := range s.hostKeys {
		config.AddHostKey(key)
	}
	return config
}

// authorize asks whether key may log in as the user that conn names. Its error
// is a *refusal.
func (s *Server) authorize(ctx context.Context, conn ssh.ConnMetadata, key ssh.PublicKey) (auth.Grant, error) {
	var grant auth.Grant
	keys, err := s.accounts.Keys(ctx, conn.User())
	if err == nil {
		grant, err = keys.Authorize(auth.LoginRequest{
			User:   conn.User(),
			Key:    key,
			Remote: remoteOf(conn.RemoteAddr()).Addr(),
			Now:    time.Now(),
		})
	}
	if err != nil {
		return auth.Grant{}, &refusal{short(conn.User()), auth.Fingerprint(key), err}
	}
	return grant, nil
}

// grantOf returns what VerifiedPublicKeyCallback has left.
func grantOf(perms *ssh.Permissions) (auth.Grant, error) {
	if perms != nil {
		if grant, ok := perms.ExtraData[grantKey{}].(auth.Grant); ok {
			return grant, nil
		}
	}
	return auth.Grant{}, fmt.Errorf("%w: no grant", auth.ErrAuth)
}

// remoteOf returns the peer's address; the zero one if it has no IP address.
func remoteOf(addr net.Addr) netip.AddrPort {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	port := tcp.AddrPort()
	return netip.AddrPortFrom(port.Addr().Unmap(), port.Port())
}

// logRefused tells of a login that did not come about, by the last key that was
// refused. Scanners and health checks, which just hang up, are not worth a line.
func logRefused(ctx context.Context, log *slog.Logger, took time.Duration, err error) {
	var (
		all  *ssh.ServerAuthError
		last *refusal
	)
	if errors.As(err, &all) {
		for _, one := range all.Errors {
			_ = errors.As(one, &last) // others are of no interest
		}
	}
	log = log.With("seconds", took.Seconds())
	switch {
	case last != nil:
		level := slog.LevelInfo
		if !errors.Is(last.reason, auth.ErrAuth) {
			level = slog.LevelWarn // not the client's fault: a keys file that cannot be read, say
		}
		log.Log(ctx, level, "login refused", "user", last.user, "key", last.key, "reason", brief(last.reason))
	case errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed):
		log.DebugContext(ctx, "no login", "err", err)
	default:
		log.InfoContext(ctx, "no login", "err", brief(err))
	}
}

// brief is what err says, cut: names of algorithms and what a certificate holds
// are the stranger's own words, of which he has a quarter of a megabyte.
func brief(err error) string {
	const enough = 512
	text := err.Error()
	if len(text) > enough {
		return text[:enough] + "…"
	}
	return text
}

// short keeps what a stranger calls himself from filling the log.
func short(user string) string {
	const enough = 64
	if len(user) > enough {
		return user[:enough] + "…"
	}
	return user
}
