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
type Client struct{}

// NewClient dials and logs in.
func NewClient(ctx context.Context, o ClientOptions) (*Client, error) { panic("not built yet") }

// What a Client is (methods to be built): tree.Sink, tree.Suber, tree.Linker,
// tree.Spacer, tree.Summer, tree.Carrier, tree.Putter, tree.Getter,
// tree.Xattrer, OpenFile of tree.FS, and:
//
//	Home(ctx) (tree.Path, error)
//	RealPath(ctx, text string) (tree.Path, error)   // RESOLVE
//	Close() error
//	Describe(ctx) []string                          // a line for each stream, for -v
//
// Its Readers are tree.ExtentReader, tree.ChunkReader and tree.ChunkHasher.
var _ tree.Path
