package native

import (
	"context"
	"errors"
	"log/slog"

	"transferd/internal/tree"
	"transferd/protocol"
)

// Compression says when a client compresses what it sends, and lets the server
// do so.
type Compression uint8

// The ways to compress.
const (
	CompressAuto   Compression = iota // where the link is slower than compressing
	CompressAlways                    // whatever becomes smaller
	CompressOff
)

// ClientOptions are the settings of a Client. Control is needed.
type ClientOptions struct {
	// Control dials a control stream, at first and after it was lost, and says
	// who proves what on it. An error of it is passed on.
	Control func(ctx context.Context) (*Stream, Prover, error)

	// Join dials one more stream for the session that welcome is of; over TLS it
	// has checked that the peer shows exactly welcome.TLSKey. An error means
	// that the session does with the streams it has. Nil: no further streams.
	Join func(ctx context.Context, welcome *protocol.Welcome) (*Stream, error)

	Streams  int // at most; 0: adapt
	Compress Compression
	Label    string       // user@host:port, for errors
	Log      *slog.Logger // nil: discarded
}

// A Prover checks the host and proves the user on a control stream over TCP
// (docs/protocol.md, section 5). Nil on streams that are authenticated already.
type Prover interface {
	// Algorithms are those of host keys that are wanted, the best liked first.
	Algorithms() []string

	// CheckHost verifies the SSHSIG signature of message by key, and decides
	// whether key is the host's. Nothing more is sent if it fails.
	CheckHost(ctx context.Context, key, signature, message []byte) error

	// User is who wants to log in.
	User() string

	// Keys are the public keys or certificates to offer, the best liked first.
	Keys(ctx context.Context) ([][]byte, error)

	// Sign makes the SSHSIG of message by key. An error that is ErrSkip goes on
	// with the next key.
	Sign(ctx context.Context, key, message []byte) ([]byte, error)

	// Refused turns the server's last word into an error for the person.
	Refused(e *PeerError) error
}

// ErrSkip is Prover.Sign's answer for a key that cannot be used after all.
var ErrSkip = errors.New("key not used")

// A Client is the tree of a server. Its paths begin at the session's root. It
// is safe for concurrent use, and survives lost connections: an operation that
// was running fails with tree.ErrLost, the next one dials anew. Close ends it.
//
// Besides what it has here, it has all methods of a branch: those of the tree.
type Client struct {
	branch

	o ClientOptions
}

var (
	_ tree.Sink    = (*Client)(nil)
	_ tree.Suber   = (*Client)(nil)
	_ tree.Linker  = (*Client)(nil)
	_ tree.Spacer  = (*Client)(nil)
	_ tree.Summer  = (*Client)(nil)
	_ tree.Carrier = (*Client)(nil)
	_ tree.Putter  = (*Client)(nil)
	_ tree.Getter  = (*Client)(nil)
	_ tree.Xattrer = (*Client)(nil)
	_ tree.FS      = (*Client)(nil)
	_ tree.SubTree = (*branch)(nil)
)

// NewClient dials and logs in.
func NewClient(ctx context.Context, o ClientOptions) (*Client, error) {
	return nil, errors.ErrUnsupported
}

// Close ends the session in order and returns when nothing of it runs any more.
func (c *Client) Close() error { return errors.ErrUnsupported }

// Home returns the path where relative names of people begin.
func (c *Client) Home(ctx context.Context) (tree.Path, error) { return "", errors.ErrUnsupported }

// RealPath returns where text leads that a person typed: absolute, relative to
// home, or beginning with ~ or ~user.
func (c *Client) RealPath(ctx context.Context, text string) (tree.Path, error) {
	return "", errors.ErrUnsupported
}

// Describe returns a line for each stream of the session, for people.
func (c *Client) Describe(ctx context.Context) []string { return nil }
