// Package native is both ends of the native protocol (docs/protocol.md), over
// whatever carries bytes in order both ways. It dials nothing, listens nowhere
// and knows neither keys nor disks: who a peer is, is told or asked for.
package native

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"time"

	"transferd/internal/tree"
	"transferd/protocol"
)

// A Stream is one connection or channel between the two ends.
type Stream struct {
	// Close is abrupt: Read and Write that are waiting return. It may be called
	// several times.
	io.ReadWriteCloser

	// Transport names what carries the stream, for people: "tcp", "ssh" or
	// "stdio".
	Transport string

	// Binding says what a join on this stream is bound to, and Bound what that
	// is over SSH: the session identifier (RFC 4253, section 7.2). Stdio binds
	// to nonces, which this package makes.
	Binding protocol.Binding
	Bound   []byte

	// Exporter returns ExporterSize bytes of keying material (RFC 8446, section
	// 7.5) with an empty context. TLS only; nil elsewhere.
	Exporter func(label string) ([]byte, error)

	// Remote is the peer's address; zero where it has none.
	Remote netip.AddrPort

	// Opened is called once, when the handshake is over and this package watches
	// over the stream itself: it is where the caller's deadlines end. May be nil.
	Opened func()
}

// A PeerError is a GOODBYE or FAIL of the other end outside of any operation on
// a tree: in the handshake, or as the end of a session.
type PeerError struct {
	Code    protocol.Code
	Message string // for a person; not to be shown with its control characters
}

func (e *PeerError) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("the other end says: %v", e.Code)
	}
	return "the other end says: " + e.Message
}

// A Refusal is what a Gatekeeper answers to a peer that does not get in.
type Refusal struct {
	Code    protocol.Code
	Message string // for the peer's person
	Err     error  // for the log; nil: Message says it all
}

func (e *Refusal) Error() string {
	if e.Err != nil {
		return e.Err.Error()
	}
	return e.Message
}

// Unwrap returns the cause.
func (e *Refusal) Unwrap() error { return e.Err }

// A Gatekeeper proves the host's identity to strangers and finds out who they
// are (docs/protocol.md, section 5). It is used over TCP alone. Errors that are
// a *Refusal are told to the peer as they say, others as FAILURE.
type Gatekeeper interface {
	// Proof chooses the host key (or certificate), in SSH's encoding, for a
	// client that knows algorithms, and signs message(key) as an SSHSIG.
	Proof(ctx context.Context, algorithms []string, message func(key []byte) []byte) (key, signature []byte, err error)

	// Offer says which of keys could log user in: bit n for the one with index
	// n. It takes as long for a user that does not exist.
	Offer(ctx context.Context, user string, keys [][]byte) (uint32, error)

	// Prove checks the SSHSIG signature of message by key, and whether that may
	// log user in from where the stream comes. It returns the Guest then.
	Prove(ctx context.Context, user string, key, signature, message []byte) (Guest, error)
}

// A Guest is who a session belongs to.
type Guest struct {
	User string
	Tree FS
	Home tree.Path

	// Resolve makes a path of what a person typed (RESOLVE). Nil: paths are
	// below Home or, where absolute, the root, and "~" alone is Home.
	Resolve func(ctx context.Context, text string) (tree.Path, error)

	Confined bool // no path leads out of the root
	ReadOnly bool // nothing can be changed

	// Admit is asked at every join: whether the key that logged in may be used
	// from remote at this time. Nil: always.
	Admit func(remote netip.Addr, now time.Time) error

	// Done is called once, when the session has ended. May be nil.
	Done func()
}

// FS is the tree that a session works on: session.Session is one.
type FS interface {
	tree.FS
	tree.Sink
	tree.Suber
	tree.Linker
	tree.Spacer
	tree.Summer
}
