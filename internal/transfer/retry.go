package transfer

import (
	"context"
	"errors"
	"time"

	"transferd/internal/tree"
)

const (
	firstPause = time.Second
	maxPause   = 30 * time.Second
)

// retry calls op until it succeeds, fails for another reason than a lost
// connection, or has lost it too often.
func (c *copier) retry(ctx context.Context, label string, op func() error) error {
	return c.retryWhile(ctx, label, func() (bool, error) { return false, op() })
}

// retryWhile is retry for an op that can get further each time: when it says
// that it did, the count of attempts and the pauses start anew.
func (c *copier) retryWhile(ctx context.Context, label string, op func() (progress bool, err error)) error {
	pause := firstPause
	for attempt := 1; ; attempt++ {
		progress, err := op()
		if err == nil || !errors.Is(err, tree.ErrLost) {
			return err
		}
		if progress {
			attempt, pause = 1, firstPause
		}
		if attempt > c.opt.Retries || ctx.Err() != nil {
			return err
		}
		c.emit(Retrying{Path: label, Err: err, After: pause, Attempt: attempt})
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
		pause = min(2*pause, maxPause)
	}
}

// retryValue is retry for a call that returns a value.
func retryValue[T any](ctx context.Context, c *copier, label string, op func() (T, error)) (T, error) {
	var v T
	err := c.retry(ctx, label, func() (err error) {
		v, err = op()
		return err
	})
	return v, err
}
