package admission

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"

	"transferd/auth"
)

// ErrForced says that the key is bound to a command and does not transfer files.
var ErrForced = errors.New("this key is bound to another command and cannot be used for file transfer")

// A Refusal is why a key did not do. It is for the log; the client only learns
// that there was one.
type Refusal struct {
	User, Key string // Key is a fingerprint
	Reason    error
}

func (r *Refusal) Error() string { return "login refused" }

// Log tells of a login that did not come about because of r.
func (r *Refusal) Log(ctx context.Context, log *slog.Logger) {
	level := slog.LevelInfo
	if !errors.Is(r.Reason, auth.ErrAuth) {
		level = slog.LevelWarn // not the client's fault: a keys file that cannot be read, say
	}
	log.Log(ctx, level, "login refused", "user", Short(r.User), "key", r.Key, "reason", Brief(r.Reason))
}

// RemoteOf returns a peer's address; the zero one if it has no IP address.
func RemoteOf(addr net.Addr) netip.AddrPort {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	port := tcp.AddrPort()
	return netip.AddrPortFrom(port.Addr().Unmap(), port.Port())
}

// Brief is what err says, cut: names of algorithms and what a certificate holds
// are the stranger's own words, of which he has a quarter of a megabyte.
func Brief(err error) string { return cut(err.Error(), 512) }

// Short keeps what a stranger calls himself from filling the log.
func Short(name string) string { return cut(name, 64) }

func cut(text string, enough int) string {
	if len(text) > enough {
		return text[:enough] + "…"
	}
	return text
}

// Recovered is to be deferred. It is the last belt: what a peer makes panic ends its own
// connection and nothing else.
func Recovered(ctx context.Context, log *slog.Logger) {
	if p := recover(); p != nil {
		log.ErrorContext(ctx, "panic", "cause", fmt.Sprint(p), "stack", string(debug.Stack()))
	}
}
