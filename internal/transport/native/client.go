package native

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

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

	// Data dials like Join, over TCP, the stream that what files hold moves to
	// as soon as there is a session over SSH whose WELCOME names a TCP port. An
	// error means that it stays. Nil: it stays, and Join alone adds streams.
	Data func(ctx context.Context, welcome *protocol.Welcome) (*Stream, error)

	Streams  int // that files go over, at most; 0: adapt
	Compress Compression
	Patience time.Duration // with a stdio that has not shown its preface; 0: protocol.StdioAfter
	Label    string        // user@host:port, for errors
	Log      *slog.Logger  // nil: discarded
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

	o        ClientOptions
	calls    calls
	payloads payloads
	small    squeeze // of small files that are sent
	puts     puts

	turn chan struct{} // full while somebody dials or closes

	mu     sync.Mutex
	group  sync.WaitGroup // what runs for the Client
	sess   *clientSession // the last one; nil before the first
	closed bool
	quit   chan struct{} // closed with the Client
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
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c := &Client{o: o, turn: make(chan struct{}, 1), quit: make(chan struct{})}
	c.c = c
	if _, err := c.session(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// spawn runs f beside, and reports whether it does: not once the Client is closed.
func (c *Client) spawn(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.group.Go(f)
	}
	return !c.closed
}

// live returns the session if there is one that has not ended.
func (c *Client) live() (*clientSession, error) {
	c.mu.Lock()
	s, closed := c.sess, c.closed
	c.mu.Unlock()
	if closed {
		return nil, tree.ErrClosed
	}
	if s != nil && s.cause() == nil {
		return s, nil
	}
	return nil, nil //nolint:nilnil // none yet is no error
}

// session returns the session, a new one if the last has ended. One caller dials,
// the others wait in line and look again.
func (c *Client) session(ctx context.Context) (*clientSession, error) {
	if s, err := c.live(); s != nil || err != nil {
		return s, err
	}
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if s, err := c.live(); s != nil || err != nil {
		return s, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	over := make(chan struct{})
	defer close(over)
	c.spawn(func() {
		select {
		case <-c.quit:
			cancel()
		case <-over:
		}
	})
	s, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	if !s.begin() { //nolint:contextcheck // the session outlives who dialled it
		s.leave()
		return nil, tree.ErrClosed
	}
	c.mu.Lock()
	c.sess = s
	closed := c.closed
	c.mu.Unlock()
	if closed { // Close has seen the one before
		s.leave()
	}
	return s, nil
}

// Close ends the session in order and returns when nothing of it runs any more.
func (c *Client) Close() error {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		close(c.quit)
	}
	s := c.sess
	c.mu.Unlock()
	if s != nil {
		s.leave()
	}
	c.turn <- struct{}{} // who dials gives up
	<-c.turn
	c.group.Wait()
	return nil
}

// Home returns the path where relative names of people begin.
func (c *Client) Home(ctx context.Context) (tree.Path, error) {
	s, err := c.session(ctx)
	if err != nil {
		return "", err
	}
	return tree.Path(s.welcome.Home), nil
}

// RealPath returns where text leads that a person typed: absolute, relative to
// home, or beginning with ~ or ~user.
func (c *Client) RealPath(ctx context.Context, text string) (tree.Path, error) {
	s, err := c.session(ctx)
	if err != nil {
		return "", err
	}
	m, err := s.control.do(ctx, &protocol.Resolve{Text: text}, protocol.TypeResolved)
	if err != nil {
		return "", failed("resolve", c.nameOf(text), err)
	}
	return tree.Path(m.(*protocol.Resolved).Path), nil
}

// Describe returns a line for each stream of the session, for people.
func (c *Client) Describe(_ context.Context) []string {
	s, err := c.live()
	if s == nil || err != nil {
		return nil
	}
	var lines []string
	for _, l := range s.streams() {
		lines = append(lines, l.describe())
	}
	return lines
}
