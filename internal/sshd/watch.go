package sshd

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	// askAfter is the silence after which the client is asked for a sign of
	// life, deadAfter the one after which it has none. TCP itself would take a
	// quarter of an hour to notice.
	askAfter  = 15 * time.Second
	deadAfter = 40 * time.Second
)

// A moment is a point in time that several goroutines move on. It does not
// jump when the clock is set.
type moment struct {
	base time.Time
	at   atomic.Int64 // ns after base
}

func newMoment() *moment { return &moment{base: time.Now()} }

// now moves m to the present.
func (m *moment) now() { m.at.Store(int64(time.Since(m.base))) }

// since is how long ago m is.
func (m *moment) since() time.Duration { return time.Since(m.base) - time.Duration(m.at.Load()) }

// watch ends the connection when the client is dead, or idle for too long. It
// returns when stop is closed.
func (c *connection) watch(ctx context.Context, stop <-chan struct{}) {
	var asking chan struct{} // closed when the question has been answered
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer func() {
		if asking != nil {
			<-asking // the connection is gone, so this ends
		}
	}()
	for {
		select {
		case <-stop:
			return
		case <-timer.C:
		}
		silent, idle := c.wire.Silence(), time.Duration(0)
		if !c.busy() { // a copy inside the server or an fsync may take its time
			idle = c.data.since() // asked for last: a request may end meanwhile
		}
		limit := c.server.limits.Load().IdleTimeout
		switch {
		case silent >= deadAfter:
			c.log.InfoContext(ctx, "connection dropped: the client does not answer", "silent", silent)
			c.close(ctx)
			return
		case limit > 0 && idle >= limit:
			c.log.InfoContext(ctx, "connection dropped: no data for too long", "idle", idle)
			c.close(ctx)
			return
		case silent >= askAfter && !pending(asking):
			asking = make(chan struct{})
			go c.ask(ctx, asking)
		}
		next := askAfter - silent
		if silent >= askAfter {
			next = deadAfter - silent
		}
		if limit > 0 {
			next = min(next, limit-idle)
		}
		timer.Reset(next)
	}
}

// pending reports whether the question has not been answered yet.
func pending(asking <-chan struct{}) bool {
	if asking == nil {
		return false
	}
	select {
	case <-asking:
		return false
	default:
		return true
	}
}

// ask makes the client say something: any answer will do.
func (c *connection) ask(ctx context.Context, answered chan<- struct{}) {
	defer close(answered)
	if _, _, err := c.conn.SendRequest("keepalive@openssh.com", true, nil); err != nil {
		c.log.DebugContext(ctx, "keepalive", "err", err)
	}
}
