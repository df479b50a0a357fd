package wire

import (
	"io"
	"testing"
	"testing/synctest"

	"transferd/internal/testnet"
)

func TestLargeBuffersAreGivenBackWhenLittleComes(t *testing.T) {
	for _, grow := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			a, b := testnet.Pipe()
			near, far := New(a), New(b)
			if grow {
				far.Grow()
			}
			send := func(n int) {
				t.Helper()
				if _, err := near.Write(make([]byte, n)); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				for p := make([]byte, calmSize); n > 0; n -= len(p) {
					if _, err := io.ReadFull(far, p[:min(n, len(p))]); err != nil {
						t.Fatal(err)
					}
				}
			}
			for range 8 * busyTimes {
				send(Buffer)
			}
			if got := len(far.in.buf); grow && got != Buffer || !grow && got != 0 {
				t.Errorf("with Grow %v and much to read the buffer has %d bytes", grow, got)
			}
			near.mu.Lock()
			if cap(near.pending) < calmSize {
				t.Errorf("with much to write there is room for %d bytes", cap(near.pending))
			}
			near.mu.Unlock()
			for range 2*calmTimes + 1 {
				send(13)
			}
			near.mu.Lock()
			if far.in.buf != nil || cap(near.pending) > calmSize {
				t.Errorf("with little to do %d bytes are held for reading, %d for writing", len(far.in.buf), cap(near.pending))
			}
			near.mu.Unlock()
			send(Buffer)
			closeConn(near)
			closeConn(far)
		})
	}
}
