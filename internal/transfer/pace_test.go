package transfer

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestPaceIsExactOverAllCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(1 << 20)
		start := time.Now()
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range 10 {
					if err := p.wait(t.Context(), 256<<10); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		if got := time.Since(start); got != 10*time.Second {
			t.Errorf("10 MiB at 1 MiB/s took %v, want 10s", got)
		}
		// Idle time is not saved up.
		<-time.After(time.Hour)
		start = time.Now()
		_ = p.wait(t.Context(), 2<<20)
		if got := time.Since(start); got != 2*time.Second {
			t.Errorf("2 MiB after an idle hour took %v, want 2s", got)
		}
	})
}

func TestPaceEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := newPace(1).wait(ctx, 1<<30); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("wait = %v, want the end of its context", err)
		}
	})
}
