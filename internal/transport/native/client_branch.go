package native

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"transferd/internal/tree"
	"transferd/protocol"
)

// errReplaced says that a directory is not what it was on the lost connection.
var errReplaced = errors.New("the directory was replaced while the connection was lost")

// A branch is the part of a server's tree below one directory: the session's
// root, or one that Sub was asked for and that a handle holds.
type branch struct {
	c   *Client
	dir *heldDir // nil: the root

	closed atomic.Bool
}

// at returns the session, and the handle of the branch's directory in it.
func (b *branch) at(ctx context.Context) (*clientSession, uint32, error) {
	if b.closed.Load() {
		return nil, 0, tree.ErrClosed
	}
	s, err := b.c.session(ctx)
	if err != nil || b.dir == nil {
		return s, 0, err
	}
	handle, err := b.dir.open(ctx, s)
	return s, handle, err
}

// Transport implements tree.Carrier: "tcp" if anything of the session goes over
// TCP, else "ssh".
func (b *branch) Transport() string {
	b.c.mu.Lock()
	s := b.c.sess
	b.c.mu.Unlock()
	if s != nil {
		for _, l := range s.streams() {
			if l.conn.Transport == "tcp" {
				return "tcp"
			}
		}
	}
	return "ssh"
}

// Sub implements tree.Suber. The directory is held by a handle; after a lost
// connection it is opened again by its path, and must still be the same.
func (b *branch) Sub(ctx context.Context, p tree.Path) (tree.SubTree, error) {
	d := &heldDir{c: b.c, parent: b.dir, path: p, turn: make(chan struct{}, 1), refs: 1}
	if d.parent != nil && !d.parent.hold() {
		return nil, failed("open", b.name(p), tree.ErrClosed)
	}
	sub := &branch{c: b.c, dir: d}
	if _, _, err := sub.at(ctx); err != nil {
		d.release() //nolint:contextcheck // closing outlives who gave up
		return nil, failed("open", b.name(p), err)
	}
	return sub, nil
}

// Close lets go of the directory. The session belongs to the Client.
func (b *branch) Close() error {
	if b.dir != nil && !b.closed.Swap(true) {
		b.dir.release()
	}
	return nil
}

// A heldDir is a directory that a handle holds as long as somebody wants it: the
// branch that was made for it, and directories below that were opened by it.
type heldDir struct {
	c      *Client
	parent *heldDir // nil: the root
	path   tree.Path

	turn chan struct{} // full while somebody opens it

	mu     sync.Mutex
	refs   int
	sess   *clientSession // where handle is open; nil: nowhere
	handle uint32
	is     inode
}

// An inode tells one directory from another; zero where the server cannot tell.
type inode struct{ device, number uint64 }

// hold keeps the directory open, unless it has been let go already.
func (d *heldDir) hold() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refs == 0 {
		return false
	}
	d.refs++
	return true
}

func (d *heldDir) release() {
	d.mu.Lock()
	d.refs--
	last, s, handle := d.refs == 0, d.sess, d.handle
	d.mu.Unlock()
	if !last {
		return
	}
	if s != nil {
		s.drop(handle)
	}
	if d.parent != nil {
		d.parent.release()
	}
}

// opened returns the handle if it is open in s.
func (d *heldDir) opened(s *clientSession) (uint32, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refs == 0 {
		return 0, tree.ErrClosed
	}
	if d.sess != s {
		return 0, nil
	}
	return d.handle, nil
}

// open returns the directory's handle in s.
func (d *heldDir) open(ctx context.Context, s *clientSession) (uint32, error) {
	if h, err := d.opened(s); h != 0 || err != nil {
		return h, err
	}
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if h, err := d.opened(s); h != 0 || err != nil {
		return h, err
	}
	var above uint32
	if d.parent != nil {
		var err error
		if above, err = d.parent.open(ctx, s); err != nil {
			return 0, err
		}
	}
	h, err := s.handle(ctx)
	if err != nil {
		return 0, err
	}
	is, err := openDir(ctx, s, protocol.Place{Dir: above, Path: string(d.path)}, h)
	if err != nil {
		s.drop(h) //nolint:contextcheck // closing outlives who gave up
		return 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.refs == 0:
		err = tree.ErrClosed
	case d.is != inode{} && is != inode{} && d.is != is:
		err = errReplaced
	default:
		d.sess, d.handle, d.is = s, h, is
		return h, nil
	}
	s.drop(h) //nolint:contextcheck // closing outlives who gave up
	return 0, err
}

// openDir opens a directory as h and finds out which it is, both in one round
// trip.
func openDir(ctx context.Context, s *clientSession, at protocol.Place, h uint32) (inode, error) {
	opened := s.c.calls.get(protocol.TypeOK)
	id, err := s.control.start(ctx, opened, &protocol.OpenDir{Place: at, Handle: h})
	if err != nil {
		s.c.calls.put(opened)
		return inode{}, err
	}
	m, statErr := s.control.do(ctx, &protocol.StatFile{Handle: h}, protocol.TypeFound)
	if _, err := s.control.wait(ctx, opened, id); err != nil {
		return inode{}, err
	}
	if statErr != nil { // a session that may not look at files can still write some
		return inode{}, ctx.Err()
	}
	e := m.(*protocol.Found).Entry
	return inode{e.Device, e.Inode}, nil
}

// drop closes a handle, or what an open that failed or that nobody waits for may
// have made of it. Nobody waits for that either.
func (s *clientSession) drop(handle uint32) {
	s.c.spawn(func() {
		defer s.names.Release(1)
		// An error tells that it was not open, or that the session has ended.
		_, _ = s.control.do(context.Background(), &protocol.Close{Handle: handle}, protocol.TypeOK)
	})
}
