package admission

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"transferd/internal/testnet"
)

// A failing listener has a number of errors before its connections.
type failing struct {
	*testnet.Listener
	left atomic.Int32
}

func (l *failing) Accept() (net.Conn, error) {
	if l.left.Add(-1) >= 0 {
		return nil, syscall.EMFILE
	}
	return l.Listener.Accept()
}

func TestDoor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDoor(slog.New(slog.DiscardHandler))
		l := &failing{Listener: testnet.Listen()}
		l.left.Store(5)
		release := make(chan struct{})
		handled := make(chan struct{}, 1)
		served := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			served <- d.Serve(ctx, l, func(ctx context.Context, conn net.Conn) {
				handled <- struct{}{}
				<-release
				if ctx.Err() != nil {
					t.Error("what was accepted ended with the accepting")
				}
				_ = conn.Close()
			})
		}()
		if _, err := l.Dial(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-handled // although Accept failed five times
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if _, err := l.Dial(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("Dial = %v: the listener is still open", err)
		}
		d.Close()
		done := d.Wait()
		synctest.Wait()
		select {
		case <-done:
			t.Error("Wait did not wait for what runs")
		default:
		}
		close(release)
		<-done
		if d.Go(func() {}) {
			t.Error("something was started behind a closed door")
		}
		if err := d.Serve(t.Context(), testnet.Listen(), nil); err != nil {
			t.Errorf("Serve behind a closed door: %v", err)
		}
	})
}

// A listener that somebody else closes is an error, and no endless loop.
func TestDoorTellsOfAClosedListener(t *testing.T) {
	l := testnet.Listen()
	_ = l.Close()
	if err := NewDoor(slog.New(slog.DiscardHandler)).Serve(t.Context(), l, nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve = %v, want net.ErrClosed", err)
	}
}
