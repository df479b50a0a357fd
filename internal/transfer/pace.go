package transfer

import (
	"context"
	"iter"
	"slices"
	"sync"
	"time"
)

// A pace spreads bytes over time: the sum of all that pass stays below a rate.
// Unused time is not saved up, so a stalled copy does not burst afterwards.
type pace struct {
	rate  float64 // bytes a second
	piece int64   // what passes at once, so that nobody waits long behind another

	mu   sync.Mutex // guards next
	next time.Time  // when the bytes let through so far will have had their time
}

// pieceUnit is the smallest piece. Pieces of high rates take a twentieth of a
// second, so that the clock's grain does not count.
const pieceUnit = 64 << 10

// newPace returns a pace of rate bytes a second, nil for no limit.
func newPace(rate int64) *pace {
	if rate <= 0 {
		return nil
	}
	return &pace{rate: float64(rate), piece: max(pieceUnit, rate/20/pieceUnit*pieceUnit)}
}

// wait returns when n more bytes may have passed.
func (p *pace) wait(ctx context.Context, n int64) error {
	if p == nil {
		return nil
	}
	for ; n > p.piece; n -= p.piece {
		if err := p.waitPiece(ctx, p.piece); err != nil {
			return err
		}
	}
	return p.waitPiece(ctx, n)
}

// pieces cuts data into what may pass at once.
func (p *pace) pieces(data []byte) iter.Seq[[]byte] {
	size := len(data)
	if p != nil {
		size = int(p.piece)
	}
	return slices.Chunk(data, max(size, 1))
}

func (p *pace) waitPiece(ctx context.Context, n int64) error {
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
