package store

import (
	"fmt"
	"time"

	"transferd/internal/tree"
)

// flushLoop makes what was written durable, a batch at a time, until the gate
// closes or one cannot be. A batch is full at its size, or when its first chunk
// is a second old: larger batches cost less, older ones lose more.
func (w *writer) flushLoop() {
	defer close(w.flushed)
	for {
		select {
		case <-w.gate.stop:
			return
		case <-w.first:
		}
		t := time.NewTimer(w.hub.tuning.batchEvery)
		select {
		case <-w.gate.stop:
			t.Stop()
			return
		case <-t.C:
		case <-w.full:
		}
		t.Stop()
		if err := w.flush(); err != nil {
			w.failed(err) // and the next WriteChunk returns it
			return
		}
	}
}

// failed tells who listens why the upload cannot go on. Otherwise a peer that
// waits for announcements before it sends more would wait for ever.
func (w *writer) failed(err error) {
	if w.u.Failed != nil {
		w.u.Failed(w.fail("write", err))
	}
}

// flush makes durable and records what WriteChunk has finished before it
// began: first the data, then the records that speak of it, and before the
// first record counts also the names of both files.
func (w *writer) flush() error {
	w.flushing.Lock()
	defer w.flushing.Unlock()
	w.mu.Lock()
	batch, again, size := w.pending, w.again, w.batch
	w.pending, w.again, w.batch = nil, nil, 0
	err := w.fault
	w.mu.Unlock()
	if err == nil && len(batch) > 0 {
		err = w.makeDurable(batch)
	}
	durable, err := w.settleBatch(batch, again, size, err)
	if err != nil {
		return err
	}
	// Only here, and still alone: whoever hears of a chunk may forget it.
	if len(durable) > 0 && w.u.Durable != nil && w.u.Fsync != tree.FsyncOff {
		w.u.Durable(durable)
	}
	return nil
}

// settleBatch takes the result of making batch durable, and returns the chunks
// that have become so, and those of again, which came a second time.
func (w *writer) settleBatch(batch []record, again []int64, size int64, err error) ([]int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unsynced -= size
	close(w.room)
	w.room = make(chan struct{})
	if err != nil {
		w.fault = err
		return nil, err
	}
	durable := make([]int64, 0, len(batch)+len(again))
	for _, r := range batch {
		if st, ok := w.chunks[r.index]; ok && st.value == r.value && !st.writing {
			st.recorded = true
			w.chunks[r.index] = st
			durable = append(durable, r.index)
		}
	}
	for _, i := range again {
		if w.chunks[i].recorded {
			durable = append(durable, i)
		}
	}
	return durable, nil
}

func (w *writer) makeDurable(batch []record) error {
	if w.u.Fsync == tree.FsyncOff {
		return w.journal.append(batch, false)
	}
	if err := w.syncData(); err != nil {
		return err
	}
	if err := w.journal.append(batch, true); err != nil {
		return w.diskFull(err)
	}
	if w.dirDone {
		return nil
	}
	w.hub.index.sync()
	if err := w.hub.syncDir(w.at.dir); err != nil {
		return err
	}
	w.dirDone = true
	return nil
}

// syncData makes the bytes of the partial durable. The system reports a lost
// write once and forgets it, so after an error no later success means
// anything: the writer is dead.
func (w *writer) syncData() error {
	if err := w.hub.before(step{op: stepSync, dir: w.at.dir, name: w.partName()}); err != nil {
		return fmt.Errorf("%w: %w", errDead, err)
	}
	if err := w.hub.sys.datasync(w.part); err != nil {
		return fmt.Errorf("%w: %w", errDead, explain(w.diskFull(err)))
	}
	return nil
}
