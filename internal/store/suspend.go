package store

import (
	"context"
	"errors"
	"slices"

	"transferd/internal/tree"
)

// Suspend makes what arrived durable, records it and lets go. It does so also
// when ctx has ended: that is why it is called.
func (w *writer) Suspend(context.Context) error {
	if err := w.gate.end(tree.ErrClosed); err != nil {
		return w.fail("suspend", err)
	}
	w.stopFlusher()
	return w.fail("suspend", errors.Join(w.putAway(), w.release()))
}

// Abort throws the partial away. A file that is written in place stays, for
// there is no other, unless this upload has made it.
func (w *writer) Abort(context.Context) error {
	if err := w.gate.end(tree.ErrClosed); err != nil {
		return w.fail("abort", err)
	}
	w.stopFlusher()
	return w.fail("abort", errors.Join(w.discard(), w.release()))
}

// takeOver ends the writer for a new run of the same upload: what it had is
// recorded, and its calls return tree.ErrTakenOver from now on. A writer that
// is ending by itself is waited for.
func (w *writer) takeOver(ctx context.Context) error {
	if err := w.gate.end(tree.ErrTakenOver); err != nil {
		select {
		case <-w.done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	w.stopFlusher()
	if err := errors.Join(w.putAway(), w.release()); err != nil {
		w.hub.log.WarnContext(ctx, "upload taken over", "path", w.u.Path.String(), "error", err)
	}
	w.failed(tree.ErrTakenOver)
	return nil
}

func (w *writer) stopFlusher() {
	if w.flushed != nil {
		<-w.flushed
	}
}

// putAway records what is durable and keeps it. A partial of which nothing is
// on record is of no use to anybody.
func (w *writer) putAway() error {
	if w.inPlace || w.published {
		return nil
	}
	if w.journal == nil {
		return w.discard()
	}
	err := w.flush()
	for _, st := range w.chunks {
		if st.recorded {
			return err
		}
	}
	return errors.Join(err, w.discard())
}

// discard removes what this upload has made.
func (w *writer) discard() error {
	switch {
	case w.published:
		return nil
	case w.inPlace && !w.fresh:
		return nil
	case w.inPlace && !same(w.at.dir, w.at.name, w.part):
		return nil // somebody has put another one there
	case w.inPlace:
		return w.at.dir.remove(w.at.name)
	}
	var errs []error
	if same(w.at.dir, w.partName(), w.part) {
		errs = append(errs, w.hub.removeStep(w.at.dir, w.partName()))
	}
	if w.journal != nil {
		errs = append(errs, w.hub.removeStep(w.at.dir, w.stem+journalSuffix))
	}
	return errors.Join(errs...)
}

// release closes everything and lets the next run in.
func (w *writer) release() error {
	errs := []error{w.part.Close()}
	if w.journal != nil {
		errs = append(errs, w.journal.Close())
	}
	errs = append(errs, w.at.dir.Close())
	if w.claim != nil {
		w.hub.claims.release(w.key, w.claim)
	}
	close(w.done)
	return errors.Join(errs...)
}

func sorted(list []int64) []int64 {
	slices.Sort(list)
	return list
}
