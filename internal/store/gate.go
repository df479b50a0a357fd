package store

import "sync"

// A gate counts running calls, so that an end can wait for them. Use newGate.
type gate struct {
	mu      sync.Mutex
	running int
	ended   error         // why no more calls are let in
	stop    chan struct{} // closed by the end: calls that wait give up
	idle    chan struct{} // closed when ended and no call runs
}

func newGate() *gate {
	return &gate{stop: make(chan struct{}), idle: make(chan struct{})}
}

// enter lets a call in; leave must follow.
func (g *gate) enter() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended != nil {
		return g.ended
	}
	g.running++
	return nil
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running--
	if g.ended != nil && g.running == 0 {
		close(g.idle)
	}
}

// end lets no more calls in, with why as their error, and returns when the
// last has left. It returns the earlier reason where there was one.
func (g *gate) end(why error) error {
	g.mu.Lock()
	if g.ended != nil {
		defer g.mu.Unlock()
		return g.ended
	}
	g.ended = why
	close(g.stop)
	if g.running == 0 {
		close(g.idle)
	}
	g.mu.Unlock()
	<-g.idle
	return nil
}

// reason is why the gate was closed.
func (g *gate) reason() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ended
}
