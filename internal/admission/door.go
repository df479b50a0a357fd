package admission

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// A Door accepts connections, on any number of listeners, and knows what runs
// because of them. NewDoor makes it; it is safe for concurrent use.
type Door struct {
	log     *slog.Logger
	running sync.WaitGroup

	mu        sync.Mutex // guards what follows
	closed    bool
	listeners map[net.Listener]struct{}
}

// NewDoor returns an open door.
func NewDoor(log *slog.Logger) *Door {
	return &Door{log: log, listeners: map[net.Listener]struct{}{}}
}

// Serve calls handle, in a goroutine of its own, with every connection that
// comes on l, until ctx ends or Close is called; then it closes l and returns
// nil. Any other error is the listener's. The context of handle does not end
// with ctx.
func (d *Door) Serve(ctx context.Context, l net.Listener, handle func(context.Context, net.Conn)) error {
	if !d.track(l) {
		return l.Close() // Close was faster than the goroutine that calls us
	}
	defer d.untrack(l)
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	// Sessions outlive the accepting: they are ended in good order.
	base := context.WithoutCancel(ctx)
	var pause time.Duration
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			if !d.Go(func() { handle(base, conn) }) {
				_ = conn.Close()
			}
		case ctx.Err() != nil || d.Closed():
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept on %v: %w", l.Addr(), err)
		default:
			// Out of file descriptors, most likely; it passes when others end.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			d.log.WarnContext(ctx, "accept", "listener", l.Addr().String(), "err", err, "retry_after", pause)
			wait(ctx, pause)
		}
	}
}

// Go runs f as what Wait waits for, and reports false when the door is closed.
func (d *Door) Go(f func()) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.running.Go(f)
	return true
}

// Close stops the accepting. What runs goes on.
func (d *Door) Close() {
	d.mu.Lock()
	d.closed = true
	listeners := d.listeners
	d.listeners = map[net.Listener]struct{}{}
	d.mu.Unlock()
	for l := range listeners {
		_ = l.Close() // Serve reports what is worth it
	}
}

// Closed reports whether Close was called.
func (d *Door) Closed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closed
}

// Wait returns what is closed when the door is closed and nothing runs any more.
func (d *Door) Wait() <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.running.Wait()
	}()
	return done
}

// track remembers l for Close, and reports false when that has been called.
func (d *Door) track(l net.Listener) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.listeners[l] = struct{}{}
	return true
}

func (d *Door) untrack(l net.Listener) {
	_ = l.Close() // closed already, or given up
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.listeners, l)
}

// wait returns after d, or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
