package store

import (
	"context"
	"sync"
)

// A claimKey names an upload's partial, however its directory is spelled.
type claimKey struct {
	dir  dirID
	name string
}

// claims knows which writer of this process holds which partial, so that a new
// run of an upload ends the stale one. The zero value is ready.
type claims struct {
	mu   sync.Mutex
	held map[claimKey]*claim
}

// A claim is held while a writer begins; afterwards writer says whose it is.
type claim struct {
	turn   chan struct{} // size 1: a lock that can be waited for with a context
	users  int
	writer *writer
}

// take waits until nobody else begins the same upload, ends its writer, and
// returns the claim, which the caller gives to a new writer or drops.
func (c *claims) take(ctx context.Context, key claimKey) (*claim, error) {
	c.mu.Lock()
	if c.held == nil {
		c.held = map[claimKey]*claim{}
	}
	cl := c.held[key]
	if cl == nil {
		cl = &claim{turn: make(chan struct{}, 1)}
		c.held[key] = cl
	}
	cl.users++
	c.mu.Unlock()
	select {
	case cl.turn <- struct{}{}:
	case <-ctx.Done():
		c.leave(key, cl)
		return nil, ctx.Err()
	}
	// Both may have come at once, and who is gone must not end who came after.
	if err := ctx.Err(); err != nil {
		c.drop(key, cl)
		return nil, err
	}
	c.mu.Lock()
	stale := cl.writer
	c.mu.Unlock()
	if stale != nil {
		if err := stale.takeOver(ctx); err != nil {
			c.drop(key, cl)
			return nil, err
		}
	}
	return cl, nil
}

// try is take for one who does not wait: nil if anybody has the partial.
func (c *claims) try(key claimKey) *claim {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held[key] != nil {
		return nil
	}
	if c.held == nil {
		c.held = map[claimKey]*claim{}
	}
	cl := &claim{turn: make(chan struct{}, 1), users: 1}
	cl.turn <- struct{}{}
	c.held[key] = cl
	return cl
}

// give makes w the holder, and lets the next one begin.
func (c *claims) give(cl *claim, w *writer) {
	c.mu.Lock()
	cl.writer = w
	c.mu.Unlock()
	<-cl.turn
}

// drop lets the next one begin, without a writer.
func (c *claims) drop(key claimKey, cl *claim) {
	<-cl.turn
	c.leave(key, cl)
}

// release ends w's hold.
func (c *claims) release(key claimKey, cl *claim) {
	c.mu.Lock()
	cl.writer = nil
	c.mu.Unlock()
	c.leave(key, cl)
}

func (c *claims) leave(key claimKey, cl *claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cl.users--; cl.users == 0 {
		delete(c.held, key)
	}
}

// holds reports whether a writer of this process has the partial.
func (c *claims) holds(key claimKey) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held[key] != nil
}
