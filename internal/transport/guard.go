package transport

import (
	"sync"
	"time"
)

// A guard ends a step of a handshake that takes too long. While a person is
// being asked the time does not run.
type guard struct {
	limit time.Duration
	end   func()

	mu    sync.Mutex
	timer *time.Timer
	fired bool
	over  bool
}

// newGuard calls end once unless the guard is released, or moved on within
// each limit. A limit of 0 never ends.
func newGuard(limit time.Duration, end func()) *guard {
	g := &guard{limit: limit, end: end}
	g.resume()
	return g
}

// pause stops the time, resume starts it again, from zero.
func (g *guard) pause() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.timer != nil {
		g.timer.Stop()
		g.timer = nil
	}
}

func (g *guard) resume() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.limit <= 0 || g.fired || g.over {
		return
	}
	if g.timer != nil {
		g.timer.Stop()
	}
	var mine *time.Timer
	mine = time.AfterFunc(g.limit, func() {
		g.mu.Lock()
		late := g.timer == mine && !g.over
		g.fired = g.fired || late
		g.mu.Unlock()
		if late {
			g.end()
		}
	})
	g.timer = mine
}

// release ends the guard and reports whether it had fired.
func (g *guard) release() bool {
	g.pause()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.over = true
	return g.fired
}
