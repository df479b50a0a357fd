package sftp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"transferd/internal/tree"
)

// flushing makes batches durable until ctx ends.
func (w *upload) flushing(ctx context.Context) {
	timer := time.NewTimer(w.c.pace.age)
	defer timer.Stop()
	timer.Stop()
	armed := false
	for {
		full := false
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			full = true
		case <-w.kick:
			w.mu.Lock()
			full = w.ready.bytes >= w.c.pace.batch
			w.mu.Unlock()
		}
		if !full {
			if !armed {
				timer.Reset(w.c.pace.age)
				armed = true
			}
			continue
		}
		timer.Stop()
		armed = false
		if err := w.flush(ctx); err != nil {
			if ctx.Err() == nil {
				w.fail(err)
			}
			return
		}
	}
}

// flush makes durable what the server has answered, then records it. The WRITEs
// of a batch have all returned before its fsync begins, on whatever lane.
func (w *upload) flush(ctx context.Context) error {
	w.flushMu.Lock()
	defer w.flushMu.Unlock()
	w.mu.Lock()
	b, synced := w.ready, w.synced
	w.ready = batch{values: map[int64]tree.Value{}}
	w.mu.Unlock()
	if len(b.values) == 0 {
		return nil
	}
	if w.syncs() && !synced {
		err := w.f.sync(ctx)
		if err != nil && ctx.Err() != nil { // only interrupted: whoever did that flushes again
			w.mu.Lock()
			defer w.mu.Unlock()
			maps.Copy(w.ready.values, b.values)
			w.ready.bytes += b.bytes
			return err
		}
		if err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return fmt.Errorf("fsync: %w", err) // nothing of the batch counts
		}
	}
	if err := w.j.Record(b.values); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held -= b.bytes
	w.change.Broadcast()
	return nil
}

// end stops the flusher. It reports false if the upload has ended already.
func (w *upload) end() bool {
	w.mu.Lock()
	again := w.ended
	w.ended = true
	w.change.Broadcast()
	w.mu.Unlock()
	w.stop()
	w.flusher.Wait()
	return !again
}

// Suspend implements tree.Writer. What has no journal cannot be resumed, so
// nothing is left of it.
func (w *upload) Suspend(ctx context.Context) error {
	if !w.end() {
		return nil
	}
	defer w.unlock()
	return w.suspend(ctx)
}

func (w *upload) suspend(ctx context.Context) error {
	if w.j == nil {
		return w.discard(ctx)
	}
	err := w.drain(ctx)
	w.f.abandon()
	return errors.Join(err, w.j.Close())
}

// drain makes durable what has arrived, also of an upload that failed: a chunk
// counts for itself.
func (w *upload) drain(ctx context.Context) error {
	w.mu.Lock()
	err := w.await(ctx, func() bool { return w.flying == 0 || w.err != nil })
	w.mu.Unlock()
	if err != nil && (errors.Is(err, tree.ErrLost) || ctx.Err() != nil) {
		return pathError("suspend", w.c.nameOf(w.part), err)
	}
	return pathError("suspend", w.c.nameOf(w.part), w.flush(ctx))
}

// Abort implements tree.Writer. A file that is written in place stays as it is
// by now.
func (w *upload) Abort(ctx context.Context) error {
	if !w.end() {
		return nil
	}
	defer w.unlock()
	err := w.discard(ctx)
	if w.j != nil {
		err = errors.Join(err, w.j.Remove())
	}
	return err
}

// discard removes the partial. On a lane that is gone there is nobody to ask:
// the next upload of the same key removes it.
func (w *upload) discard(ctx context.Context) error {
	w.f.abandon()
	if w.place != placePartial || !w.f.first.alive() {
		return nil
	}
	err := w.f.first.status(ctx, queryOn(typeRemove, w.part))
	return pathError("remove", w.c.nameOf(w.part), err)
}
