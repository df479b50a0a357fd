package sftp

import (
	"context"
	"io"
	"sync"

	"golang.org/x/sync/semaphore"
)

// outboxSize bounds what waits to be written, in bytes. It keeps the channel
// busy while the next chunk is read from the disk; what is on the wire comes on
// top.
const outboxSize = 1 << 20

// coalesce is how much of small packets is put together for one write, which
// saves a packet of SSH and system calls for each.
const coalesce = 32 << 10

// spareBuffers is how many buffers of sent packets are kept for the next ones:
// what fits into the outbox, and one.
const spareBuffers = outboxSize/maxData + 1

// An outbox is the queue before the writing half of a lane.
type outbox struct {
	room *semaphore.Weighted
	wake chan struct{} // size 1: something is in the queue

	mu    sync.Mutex
	queue []outgoing
	shut  bool // nothing is written any more
	spare [][]byte
}

type outgoing struct {
	r    query
	held bool // its room must be given back
}

func (o *outbox) init() {
	o.room = semaphore.NewWeighted(outboxSize)
	o.wake = make(chan struct{}, 1)
}

func cost(n int) int64 { return int64(min(n, outboxSize)) }

// reserve waits until there is room for a packet of n bytes.
func (o *outbox) reserve(ctx context.Context, n int) error { return o.room.Acquire(ctx, cost(n)) }

func (o *outbox) release(n int) { o.room.Release(cost(n)) }

// put queues a packet that room was reserved for.
func (o *outbox) put(r query) { o.push(outgoing{r: r, held: true}) }

// force queues a packet that cannot wait. Only small ones come this way, no
// more than there are open handles.
func (o *outbox) force(r query) { o.push(outgoing{r: r}) }

func (o *outbox) push(p outgoing) {
	o.mu.Lock()
	shut := o.shut
	if !shut {
		o.queue = append(o.queue, p)
	}
	o.mu.Unlock()
	if shut {
		o.giveBack(p)
		return
	}
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// buffer returns an empty buffer for a WRITE of n bytes.
func (o *outbox) buffer(n int) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	if last := len(o.spare) - 1; last >= 0 {
		b := o.spare[last]
		o.spare = o.spare[:last]
		if cap(b) >= n {
			return b[:0]
		}
	}
	return make([]byte, 0, n)
}

func (o *outbox) recycle(b []byte) {
	if cap(b) <= coalesce {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.spare) < spareBuffers {
		o.spare = append(o.spare, b)
	}
}

func (o *outbox) giveBack(p outgoing) {
	if p.held {
		o.release(len(p.r))
	}
}

// close gives back the room of everything that will not be written, from now
// on too: who waits for room learns from the lane why there is no use in it.
func (o *outbox) close() {
	o.mu.Lock()
	rest := o.queue
	o.queue, o.shut = nil, true
	o.mu.Unlock()
	for _, p := range rest {
		o.giveBack(p)
	}
}

func (o *outbox) take() []outgoing {
	o.mu.Lock()
	defer o.mu.Unlock()
	q := o.queue
	o.queue = nil
	return q
}

// drain writes packets to w until it fails or dead is closed. Afterwards room
// is given back at once, so that nobody waits for a lane that is gone.
func (o *outbox) drain(w io.Writer, dead <-chan struct{}) error {
	defer o.close()
	var small []byte
	flush := func() error {
		if len(small) == 0 {
			return nil
		}
		_, err := w.Write(small)
		small = small[:0]
		return err
	}
	for {
		select {
		case <-o.wake:
		case <-dead:
			return nil
		}
		batch := o.take()
		for i, p := range batch {
			var err error
			if len(small)+len(p.r) > coalesce {
				err = flush()
			}
			if err == nil && len(p.r) > coalesce {
				_, err = w.Write(p.r)
				o.recycle(p.r)
			} else {
				small = append(small, p.r...)
			}
			o.giveBack(p)
			if err != nil {
				for _, p := range batch[i+1:] {
					o.giveBack(p)
				}
				return err
			}
		}
		if err := flush(); err != nil {
			return err
		}
	}
}
