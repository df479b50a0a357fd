package transfer

import (
	"context"
	"sync"
	"time"
)

// A pace spreads bytes over time: the sum of all that pass stays below a rate.
// Unused time is not saved up, so a stalled copy does not burst afterwards.
type pace struct {
	rate float64 // bytes a second

	mu   sync.Mutex // guards next
	next time.Time  // when the bytes let through so far will have had their time
}

// newPace returns a pace of rate bytes a second, nil for no limit.
func newPace(rate int64) *pace {
	if rate <= 0 {
		return nil
	}
	return &pace{rate: float64(rate)}
}

// wait returns when n more bytes may have passed.
func (p *pace) wait(ctx context.Context, n int64) error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	p.next = p.next.Add(time.Duration(float64(n) / p.rate * float64(time.Second)))
	pause := p.next.Sub(now)
	p.mu.Unlock()

	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
