package sftp

import (
	"errors"
	"sync"
	"testing"
)

// brokenWriter fails after a number of writes.
type brokenWriter struct{ good int }

var errBroken = errors.New("broken")

func (w *brokenWriter) Write(p []byte) (int, error) {
	if w.good--; w.good < 0 {
		return 0, errBroken
	}
	return len(p), nil
}

func TestOutboxOfADeadLaneLetsNobodyWait(t *testing.T) {
	for _, tt := range []struct {
		name string
		good int  // writes before the first that fails
		dead bool // the lane dies before anything is written
	}{
		{"first write fails", 0, false},
		{"third write fails", 2, false},
		{"lane dies", 100, true},
	} {
		var o outbox
		o.init()
		dead := make(chan struct{})
		if tt.dead {
			close(dead)
		}
		packet := make(query, outboxSize/4)
		for range 4 {
			if err := o.reserve(t.Context(), len(packet)); err != nil {
				t.Fatal(err)
			}
			o.put(packet)
		}
		var waiting sync.WaitGroup
		for range 8 { // more than all the room there is
			waiting.Go(func() {
				if err := o.reserve(t.Context(), len(packet)); err != nil {
					t.Errorf("%s: reserve = %v", tt.name, err)
				}
				o.put(packet)
			})
		}
		_ = o.drain(&brokenWriter{good: tt.good}, dead)
		waiting.Wait()
		if err := o.reserve(t.Context(), outboxSize); err != nil {
			t.Errorf("%s: not all room came back: %v", tt.name, err)
		}
	}
}
