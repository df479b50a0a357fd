package sftp

import (
	"context"
	"fmt"
	"sync/atomic"

	"transferd/internal/tree"
)

// A flight is a chunk on its way.
type flight struct {
	w       *upload
	index   int64
	value   tree.Value
	bytes   int64
	missing atomic.Int32 // answers, and the sender while it still sends
}

// WriteChunk implements tree.Writer. It returns when the chunk is queued to the
// server; errors of chunks taken earlier come out of later calls.
func (w *upload) WriteChunk(ctx context.Context, ch tree.Chunk) error {
	if err := w.writeChunk(ctx, ch); err != nil {
		return w.explain(ctx, "write", err)
	}
	return nil
}

func (w *upload) writeChunk(ctx context.Context, ch tree.Chunk) error {
	off := ch.Index * w.u.ChunkSize
	n := int64(len(ch.Data))
	if ch.Index < 0 || n > w.u.ChunkSize || (w.u.Size >= 0 && off+n > w.u.Size) {
		return fmt.Errorf("chunk %d of %d bytes does not fit", ch.Index, n)
	}
	if err := w.admit(ctx, ch.Index, n); err != nil {
		return err
	}
	fl := &flight{w: w, index: ch.Index, value: ch.Value, bytes: n}
	fl.missing.Store(1)
	for _, x := range w.parts(ch, off) {
		if err := fl.send(ctx, ch.Data[x.Offset-off:x.End()-off], x.Offset); err != nil {
			w.fail(err)
			return err
		}
	}
	fl.arrived()
	w.passTurn()
	return nil
}

// parts returns what of a chunk has to be written.
func (w *upload) parts(ch tree.Chunk, off int64) []tree.Extent {
	all := tree.Extent{Offset: off, Length: int64(len(ch.Data))}
	_, again := w.have[ch.Index]
	if ch.Extents == nil || again || w.place == placeDevice || w.place == placeStream {
		// What stands there from before is no hole: the zeros have to be written.
		return all.Clip([]tree.Extent{all})
	}
	return all.Clip(ch.Extents)
}

// admit waits until there is room for n more bytes, and for the chunk's turn
// where order matters.
func (w *upload) admit(ctx context.Context, index, n int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.await(ctx, func() bool {
		if w.place == placeStream {
			return w.next == index && w.flying == 0
		}
		return w.held == 0 || w.held+n <= w.c.pace.held
	})
	if err != nil {
		return err
	}
	if w.ended {
		return tree.ErrClosed
	}
	w.held += n
	w.synced = false
	if _, known := w.have[index]; known {
		w.again[index] = struct{}{}
	}
	return nil
}

func (w *upload) passTurn() {
	if w.place != placeStream {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next++
	w.change.Broadcast()
}

// send cuts data into packets and puts them on their way, each on the lane that
// is the least busy.
func (fl *flight) send(ctx context.Context, data []byte, off int64) error {
	for len(data) > 0 {
		l, h, err := fl.w.f.on(ctx)
		if err != nil {
			return err
		}
		n := evenly(len(data), l.maxWrite)
		r := query(l.out.buffer(headerSize + 4 + len(h) + 8 + 4 + n))
		r = append(r, 0, 0, 0, 0, byte(typeWrite), 0, 0, 0, 0)
		//nolint:gosec // offsets are not negative, n is bounded by maxData
		r = r.text(h).uint64(uint64(off)).uint32(uint32(n))
		r = append(r, data[:n]...)
		c := &call{weight: int64(n) + requestWeight, then: fl.answered}
		fl.missing.Add(1)
		fl.w.took(1)
		if err := l.send(ctx, r, c); err != nil {
			fl.w.took(-1)
			return err
		}
		data, off = data[n:], off+int64(n)
	}
	return nil
}

func (w *upload) took(packets int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flying += packets
	if w.flying == 0 {
		w.change.Broadcast()
	}
}

// answered runs on the lane's reader.
func (fl *flight) answered(c *call) {
	if err := c.status(); err != nil {
		fl.w.fail(err)
	} else {
		fl.arrived()
	}
	fl.w.took(-1)
}

// arrived counts an answer; the last one makes the chunk part of the next batch.
func (fl *flight) arrived() {
	if fl.missing.Add(-1) > 0 {
		return
	}
	w := fl.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.j == nil {
		w.held -= fl.bytes
		w.change.Broadcast()
		return
	}
	w.ready.values[fl.index] = fl.value
	w.ready.bytes += fl.bytes
	if len(w.ready.values) == 1 || w.ready.bytes >= w.c.pace.batch {
		select {
		case w.kick <- struct{}{}:
		default:
		}
	}
}
