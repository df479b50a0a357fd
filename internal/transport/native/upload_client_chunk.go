package native

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/semaphore"

	"transferd/internal/tree"
	"transferd/protocol"
)

// WriteChunk implements tree.Writer. The chunk goes out on the stream with the
// least to do, whole, and on another if that one is lost meanwhile.
func (w *upload) WriteChunk(ctx context.Context, c tree.Chunk) error {
	return failed("write", w.name, w.because(ctx, w.writeChunk(ctx, c)))
}

func (w *upload) writeChunk(ctx context.Context, c tree.Chunk) error {
	if err := w.check(c); err != nil {
		return err
	}
	if w.u.Size < 0 {
		if err := w.queue(ctx, c.Index); err != nil {
			return err
		}
		defer w.step(c.Index)
	}
	n := int64(len(c.Data))
	x, err := w.enter(ctx, c.Index, n)
	if err != nil {
		return err
	}
	for {
		l := w.choose(n)
		err := w.sendChunk(ctx, l, c, x)
		l.load.Add(-n)
		if err == nil {
			return nil
		}
		if !errors.Is(err, tree.ErrLost) || l == w.lane || w.lane.cause() != nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.flying[c.Index] == x {
				w.drop(c.Index, x)
			}
			return err
		}
	}
}

func (w *upload) check(c tree.Chunk) error {
	n := int64(len(c.Data))
	fits := c.Index >= 0 && n <= w.u.ChunkSize
	if size := w.u.Size; size >= 0 && fits {
		fits = uint64(c.Index) < w.chunks() && //nolint:gosec // not negative
			n == tree.ChunkExtent(c.Index, size, w.u.ChunkSize).Length
	}
	if !fits {
		return fmt.Errorf("chunk %d has %d bytes", c.Index, n)
	}
	return nil
}

// queue waits until all chunks before index have been sent: where the size is not
// known they go in order, whoever comes first.
func (w *upload) queue(ctx context.Context, index int64) error {
	for {
		w.mu.Lock()
		turn, moved := index <= w.next, w.moved
		w.mu.Unlock()
		if turn {
			return nil
		}
		select {
		case <-moved:
		case <-w.ruin:
			return errUploadEnded
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// step lets the chunk behind index go, also where that one failed: whoever waits
// for it shall hear of it.
func (w *upload) step(index int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.next <= index {
		w.next = index + 1
		close(w.moved)
		w.moved = make(chan struct{})
	}
}

// enter waits for n bytes of both windows, and for the chunk if it is still
// under way: RECHECK may have called for one that was sent meanwhile.
func (w *upload) enter(ctx context.Context, index, n int64) (*flight, error) {
	if err := w.reserve(ctx, w.room, n); err != nil {
		return nil, err
	}
	if err := w.reserve(ctx, w.sess.room, n); err != nil {
		w.room.Release(n)
		return nil, err
	}
	for {
		w.mu.Lock()
		before := w.flying[index]
		if before == nil && !w.done {
			x := &flight{bytes: n, gone: make(chan struct{})}
			w.flying[index] = x
			w.mu.Unlock()
			return x, nil
		}
		w.mu.Unlock()
		err := errUploadEnded
		if before != nil {
			select {
			case <-before.gone:
				continue
			case <-w.ruin:
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		w.room.Release(n)
		w.sess.room.Release(n)
		return nil, err
	}
}

// reserve waits for n bytes of a window as long as the upload can come to anything.
func (w *upload) reserve(ctx context.Context, window *semaphore.Weighted, n int64) error {
	if window.TryAcquire(n) {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel()
	watch.Go(func() {
		select {
		case <-w.ruin:
			cancel()
		case <-ctx.Done():
		}
	})
	return window.Acquire(ctx, n)
}

// choose picks the stream for a chunk, and counts its bytes to its load. What
// has to come in order goes the way of BEGIN.
func (w *upload) choose(n int64) *lane {
	// Without a journal the target may be a FIFO, even where the size is known.
	if w.u.Size < 0 || w.u.InPlace || w.flags&protocol.BegunJournal == 0 {
		w.lane.load.Add(n)
		return w.lane
	}
	return w.sess.pick(n)
}

// because makes of err, if there is one, why the upload has ended, if it has.
func (w *upload) because(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	select {
	case <-w.over:
		if why := w.outcome(); why != nil {
			return why
		}
	default:
	}
	if why := w.whyRuined(); why != nil {
		return why
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// sendChunk sends c on l, with nothing else between.
func (w *upload) sendChunk(ctx context.Context, l *lane, c tree.Chunk, x *flight) error {
	if err := l.acquire(ctx); err != nil {
		return err
	}
	defer l.release()
	w.mu.Lock()
	acknowledged := w.flying[c.Index] != x // it arrived just before its stream was lost
	x.lane, x.whole, x.again = l, false, x.again || x.whole
	w.mu.Unlock()
	if acknowledged {
		return nil
	}
	p := pieces{
		c:     c,
		begin: c.Index * w.u.ChunkSize,
		limit: int(min(w.sess.hello.MaxData, protocol.MaxData)),
	}
	if w.sess.compresses() {
		p.zip, p.z = &w.zip, &w.sess.c.payloads
		p.scratch = p.z.room()
		defer p.z.giveBack(p.scratch)
	}
	for !p.over {
		m := p.next()
		if p.over {
			w.mu.Lock()
			x.whole = true
			w.sent.set(c.Index)
			w.mu.Unlock()
		}
		if err := l.data(w.id, m); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.flying[c.Index] != x: // acknowledged by now
	case w.done:
		w.drop(c.Index, x)
	case l.cause() != nil:
		return l.cause() // it may or may not have arrived
	default:
		x.handed = true
	}
	return nil
}

// pieces cuts a chunk into DATA: what lies between its extents is holes, and the
// rest as long as the server takes it.
type pieces struct {
	c     tree.Chunk
	begin int64 // of the chunk in the file
	limit int   // bytes of a payload
	at    int   // in c.Data
	over  bool  // the last one was given

	zip     *squeeze // nil: nothing is compressed
	z       *payloads
	scratch *[]byte

	m protocol.Data
}

// next returns the next piece, which is good until it is called again.
func (p *pieces) next() *protocol.Data {
	n, hole := p.run()
	p.m = protocol.Data{Offset: p.begin + int64(p.at), Encoding: protocol.EncodingHole}
	if !hole {
		n = min(n, p.limit)
		p.m.Encoding, p.m.Payload = protocol.EncodingRaw, p.c.Data[p.at:p.at+n]
		if p.zip != nil {
			if packed, ok := p.zip.pack(p.z, (*p.scratch)[:0], p.m.Payload); ok {
				p.m.Encoding, p.m.Payload = protocol.EncodingZstd, packed
			}
		}
	}
	p.m.Length = uint32(n) //nolint:gosec // at most MaxChunk
	p.at += n
	if p.at == len(p.c.Data) {
		p.over = true
		p.m.Flags, p.m.Value = protocol.DataLast|protocol.DataValue, p.c.Value
	}
	return &p.m
}

// run returns how many bytes from at on are all data, or all a hole.
func (p *pieces) run() (n int, hole bool) {
	left := len(p.c.Data) - p.at
	if p.c.Extents == nil || left == 0 {
		return left, false
	}
	at := p.begin + int64(p.at)
	for _, e := range p.c.Extents {
		switch end := e.Offset + e.Length; {
		case end <= at:
			continue
		case e.Offset > at:
			return int(min(int64(left), e.Offset-at)), true
		default:
			return int(min(int64(left), end-at)), false
		}
	}
	return left, true
}

// A bitmap is a set of indexes of chunks.
type bitmap struct {
	words []uint64
	n     uint64 // how many there are
}

func (b *bitmap) set(i int64) {
	word := int(i / 64)
	for len(b.words) <= word {
		b.words = append(b.words, 0)
	}
	if bit := uint64(1) << (i % 64); b.words[word]&bit == 0 {
		b.words[word] |= bit
		b.n++
	}
}
