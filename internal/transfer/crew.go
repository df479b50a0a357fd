package transfer

import (
	"context"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// A crew runs many short tasks at once, each in a goroutine that goes on with
// the next: stacks that have grown are used again. Use newCrew.
type crew struct {
	group *errgroup.Group
	work  chan func() error // to whoever has nothing to do
	most  atomic.Int64
	hired atomic.Int64
}

func newCrew(most int) *crew {
	w := &crew{work: make(chan func() error)}
	w.most.Store(int64(most))
	return w
}

// widen lets at least most tasks run at once from now on.
func (w *crew) widen(most int64) {
	for was := w.most.Load(); was < most && !w.most.CompareAndSwap(was, most); was = w.most.Load() {
	}
}

// do starts task. It blocks while too many run. An error of a task ends the
// whole group.
func (w *crew) do(ctx context.Context, task func() error) error {
	select {
	case w.work <- task:
		return nil
	default:
	}
	if w.hired.Add(1) <= w.most.Load() {
		w.group.Go(func() error {
			if err := task(); err != nil {
				return err
			}
			for task := range w.work {
				if err := task(); err != nil {
					return err
				}
			}
			return nil
		})
		return nil
	}
	w.hired.Add(-1)
	select {
	case w.work <- task:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// dismiss says that do will not be called any more.
func (w *crew) dismiss() { close(w.work) }
