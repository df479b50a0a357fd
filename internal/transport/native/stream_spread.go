package native

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// slowLink is below how many bytes a second the streams of a session together
	// are slower than compressing, on one core.
	slowLink = 64 << 20

	// near is up to which round trip one stream nearly fills the line, and a
	// further one is good for a further core alone.
	near = 5 * time.Millisecond

	nearStreams  = 4 // at most, near
	farStreams   = 8 // and far
	eagerStreams = 4 // far: at once, since every one begins slowly

	// look is how often it is looked whether one more stream is wanted. Far away
	// a stream needs many round trips to show what it can do.
	look = 100 * time.Millisecond

	// helped is what one more stream must add, in percent, to be followed by
	// another.
	helped = 10
)

// spread adds streams to s, while all that files go over are busy and the last
// one helped, until ctx ends with the session.
func spread(ctx context.Context, s *clientSession) {
	s.move(ctx)
	most := s.maxStreams()
	if s.aside.Load() {
		most--
	}
	var p progress
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		lanes := s.bulk()
		p.look(lanes)
		if p.busy > 1 && p.received > p.sent {
			s.pull.Store(int64(p.received * float64(time.Second/look)))
		}
		n := p.wants(len(lanes), s.control.roundTrip())
		if s.c.o.Streams > 0 && p.busy > 1 { // the person has said how many
			n = most
		}
		if n = min(n, most); n > len(lanes) && !s.joinMany(ctx, n-len(lanes)) {
			most = len(s.bulk()) // the session does with what it has
		}
	}
}

// joinMany adds n streams at the same time, and reports whether all are there.
func (s *clientSession) joinMany(ctx context.Context, n int) bool {
	var group sync.WaitGroup
	var failures atomic.Int32
	for range n {
		group.Go(func() {
			if err := s.join(ctx); err != nil {
				failures.Add(1)
				s.c.o.Log.DebugContext(ctx, "no further stream", "err", err)
			}
		})
	}
	group.Wait()
	return failures.Load() == 0
}

// progress is what the streams of a session have moved.
type progress struct {
	sentBefore, receivedBefore int64

	sent, received float64 // bytes a look, smoothed
	busy           int     // looks in a row in which all streams had something to do
	before         float64 // what was moved when the last stream was added
	since          int     // looks since then
}

func (p *progress) look(lanes []*lane) {
	var sent, received int64
	busy := true
	for _, l := range lanes {
		sent += l.sent.Load()
		received += l.received.Load()
		busy = busy && l.load.Load() > 0
	}
	p.sent = (p.sent + float64(max(0, sent-p.sentBefore))) / 2
	p.received = (p.received + float64(max(0, received-p.receivedBefore))) / 2
	p.sentBefore, p.receivedBefore = sent, received
	p.since++
	if p.busy++; !busy {
		p.busy = 0
	}
}

// wants says how many streams there should be instead of n, rtt away.
func (p *progress) wants(n int, rtt time.Duration) int {
	most, patience := nearStreams, 3
	if rtt > near {
		most, patience = farStreams, 3+int(10*rtt/look)
	}
	moved := p.sent + p.received
	switch {
	case p.busy < 2, n >= most:
		return n
	case rtt > near && n < eagerStreams:
		n = eagerStreams - 1
	case p.since < patience, n > 1 && moved < p.before*(100+helped)/100:
		return n
	}
	p.before, p.since = moved, 0
	return n + 1
}

// compresses reports whether what is sent now should be compressed: a link whose
// writes do not block is fast enough.
func (s *clientSession) compresses() bool {
	if s.c.o.Compress != CompressAuto {
		return s.mayCompress()
	}
	sum := 0.0
	for _, l := range s.bulk() {
		rate := l.sendRate()
		if rate == 0 {
			return false
		}
		sum += rate
	}
	return sum < slowLink && s.mayCompress()
}

// wantsZstd reports whether the server should compress what it sends now.
func (s *clientSession) wantsZstd() bool {
	if s.c.o.Compress != CompressAuto {
		return s.mayCompress()
	}
	rate := s.pull.Load()
	return rate > 0 && rate < slowLink && s.mayCompress()
}

// mayCompress reports whether the person and the server let zstd be used.
func (s *clientSession) mayCompress() bool {
	return s.c.o.Compress != CompressOff && s.extension(extensionZstd)
}
