package wire

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"transferd/internal/testnet"
)

// carry moves total bytes through two connections that share a limiter, and
// returns how long that took.
func carry(t *testing.T, total int64, direction string, rate int64) time.Duration {
	t.Helper()
	l := NewLimiter(rate)
	start := time.Now()
	var group sync.WaitGroup
	for range 2 {
		near, far := testnet.Pipe()
		var from, to net.Conn = Limit(near, l), far
		if direction == "in" {
			from, to = far, Limit(near, l)
		}
		group.Go(func() {
			if _, err := from.Write(make([]byte, total/2)); err != nil {
				t.Error(err)
			}
			_ = from.Close()
		})
		group.Go(func() {
			if n, err := io.Copy(io.Discard, to); n != total/2 || err != nil {
				t.Error(n, err)
			}
			_ = to.Close()
		})
	}
	group.Wait()
	return time.Since(start)
}

func TestALimiterIsExact(t *testing.T) {
	for _, rate := range []int64{10, 20_000, 1 << 20, 8 << 20} {
		for _, direction := range []string{"in", "out"} {
			synctest.Test(t, func(t *testing.T) {
				const seconds = 10
				took := carry(t, rate*seconds, direction, rate)
				if took < seconds*time.Second*95/100 || took > seconds*time.Second*105/100 {
					t.Errorf("%d bytes a second, %s: ten seconds' worth took %v", rate, direction, took)
				}
			})
		}
	}
}

func TestUnusedTimeIsNotSavedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 1 << 20
		near, far := testnet.Pipe()
		c := Limit(near, NewLimiter(rate))
		<-time.After(time.Hour)
		start := time.Now()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = io.Copy(io.Discard, far)
		}()
		if _, err := c.Write(make([]byte, rate)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 900*time.Millisecond {
			t.Errorf("a second's worth took %v after an hour of silence", took)
		}
		_ = c.Close()
		<-done
		_ = far.Close()
	})
}

func TestCloseEndsWhatWaitsForALimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := testnet.Pipe()
		c := Limit(near, NewLimiter(1))
		done := make(chan error)
		go func() {
			_, err := c.Write(make([]byte, 1000))
			done <- err
		}()
		synctest.Wait()
		_ = c.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Write returned %v", err)
		}
		_ = far.Close()
	})
}
