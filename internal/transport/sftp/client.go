package sftp

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"transferd/internal/tree"
)

// A Dialer opens one more SFTP channel to the same server: on a connection that
// stands already, or on one more. It is called by one goroutine at a time.
type Dialer func(ctx context.Context) (io.ReadWriteCloser, error)

// ClientOptions are the settings of a Client. The zero value works.
type ClientOptions struct {
	Journals tree.Journals // what is durable of uploads; nil: they do not resume
	Lanes    int           // channels to spread over; 0: as many as the load and the distance ask for
	User     string        // the account, user@host:port: part of a journal's key, and named in errors
	Log      *slog.Logger  // nil: discarded
}

// How far a Client spreads by itself. Nearby two lanes keep two cores busy at
// each end; more only take turns. Far away each lane moves one SSH window (2 MiB)
// a round trip, whatever the line could carry, so it takes several. OpenSSH
// allows ten sessions on a connection.
const (
	nearLanes = 2
	farLanes  = 8
	farTrip   = 5 * time.Millisecond // the round trip from which on a server is far
)

// growAt is the load of the least busy lane, in bytes, that is worth one more.
const growAt = 256 << 10

// A Client is the tree that an SFTP server shows. Its paths are absolute there,
// without their first slash. It is safe for concurrent use. When a channel
// breaks, what runs on it fails with tree.ErrLost, and the next operation dials
// again; nothing is ever tried twice here.
type Client struct {
	dial Dialer
	o    ClientOptions
	log  *slog.Logger
	pace pace // of uploads

	ctx    context.Context // ends with Close; for dials that no caller waits for
	cancel context.CancelFunc
	group  sync.WaitGroup
	dialer chan struct{} // held by who dials

	mu     sync.Mutex
	lanes  []*lane
	limit  int           // how many lanes there may be; falls when the server refuses one more
	trip   time.Duration // a round trip to the server, as the first lane found it
	closed bool
	home   tree.Path // "": not asked yet
}

var (
	_ tree.Sink    = (*Client)(nil)
	_ tree.Suber   = (*Client)(nil)
	_ tree.Linker  = (*Client)(nil)
	_ tree.Spacer  = (*Client)(nil)
	_ tree.Carrier = (*Client)(nil)
	_ io.Closer    = (*Client)(nil)
)

// NewClient dials the first channel and greets the server. The caller closes
// the Client, which closes the channels but no connection.
func NewClient(ctx context.Context, dial Dialer, o ClientOptions) (*Client, error) {
	c := &Client{dial: dial, o: o, log: o.Log, pace: durablePace(), dialer: make(chan struct{}, 1)}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if _, err := c.lane(ctx); err != nil {
		c.cancel()
		return nil, err
	}
	return c, nil
}

// wanted is how many lanes there may be while the server refuses none. c.mu is
// held.
func (c *Client) wanted() int {
	switch {
	case c.o.Lanes > 0:
		return c.o.Lanes
	case c.trip >= farTrip:
		return farLanes
	}
	return nearLanes
}

// Close closes all channels and waits for everything that serves them.
// Operations that are running fail with tree.ErrClosed.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	lanes := c.lanes
	c.lanes = nil
	c.mu.Unlock()
	c.cancel()
	for _, l := range lanes {
		l.close(tree.ErrClosed)
	}
	c.group.Wait()
	return nil
}

// Transport implements tree.Carrier.
func (c *Client) Transport() string { return "sftp" }

// lane returns the least busy lane. Where there is none it dials; where all are
// busy it lets one more be dialled beside what is going on.
func (c *Client) lane(ctx context.Context) (*lane, error) {
	if l, err := c.idlest(); l != nil || err != nil {
		return l, err
	}
	select {
	case c.dialer <- struct{}{}:
		defer func() { <-c.dialer }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if l, err := c.idlest(); l != nil || err != nil {
		return l, err // another caller has dialled
	}
	l, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	return l, c.add(l, true)
}

func (c *Client) open(ctx context.Context) (*lane, error) {
	ch, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	return newLane(ctx, ch)
}

// add makes a new lane one of the client's. A first one brings back the hope
// for more.
func (c *Client) add(l *lane, first bool) error {
	c.mu.Lock()
	closed := c.closed
	if !closed {
		c.lanes = append(c.lanes, l)
	}
	if first {
		c.trip = l.trip
		c.limit = c.wanted()
	}
	c.mu.Unlock()
	if closed {
		l.close(tree.ErrClosed)
		return tree.ErrClosed
	}
	c.log.Debug("sftp channel open", "read_size", l.maxRead, "write_size", l.maxWrite, "round_trip", l.trip)
	return nil
}

// idlest returns the living lane with the least load, nil if there is none.
func (c *Client) idlest() (*lane, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, tree.ErrClosed
	}
	var best *lane
	c.lanes = slices.DeleteFunc(c.lanes, func(l *lane) bool {
		if !l.alive() {
			c.group.Go(func() { l.close(tree.ErrLost) })
			return true
		}
		if best == nil || l.load.Load() < best.load.Load() {
			best = l
		}
		return false
	})
	if best != nil && len(c.lanes) < c.limit && best.load.Load() >= growAt {
		c.grow()
	}
	return best, nil
}

// grow dials one more lane in the background unless somebody dials already.
// c.mu is held. A refusal only means that there will be no more: servers bound
// the sessions of a connection and the connections that begin at once.
func (c *Client) grow() {
	select {
	case c.dialer <- struct{}{}:
	default:
		return
	}
	c.group.Go(func() {
		defer func() { <-c.dialer }()
		l, err := c.open(c.ctx)
		if err == nil {
			_ = c.add(l, false) // closed meanwhile: nothing to do
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.limit = max(1, len(c.lanes))
		c.log.Debug("no further sftp channel", "open", c.limit, "error", err)
	})
}

// on runs fn with a lane and names op and path in its error.
func on[T any](ctx context.Context, c *Client, op string, p tree.Path, fn func(*lane) (T, error)) (T, error) {
	l, err := c.lane(ctx)
	if err != nil {
		var none T
		return none, err
	}
	v, err := fn(l)
	return v, pathError(op, c.name(p), err)
}

// name names p for people: with the server, so that an error says where.
func (c *Client) name(p tree.Path) string { return c.nameOf(remote(p)) }

func (c *Client) nameOf(path string) string {
	if c.o.User == "" {
		return path
	}
	return c.o.User + ":" + path
}

// remote is p as the server spells it.
func remote(p tree.Path) string {
	if p == tree.Root {
		return "/"
	}
	return "/" + string(p)
}
