package native

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sort"
	"time"

	"transferd/internal/tree"
	"transferd/protocol"
)

// cancelGrace is how long a COMMIT that was cancelled is waited for: what is on
// the way is made durable meanwhile, or the file is there after all.
const cancelGrace = 3 * time.Second

// A recheck is a RECHECK that is running.
type recheck struct {
	running bool
	deaf    bool    // who asked has given up
	total   int     // indexes that came
	bad     []int64 // those that were not passed on
	wake    chan struct{}
}

// takeBad takes a BAD. The caller holds mu.
func (w *upload) takeBad(m *protocol.Bad) error {
	r := &w.recheck
	if !r.running {
		return violation(protocol.TypeBad)
	}
	for _, i := range m.Indexes {
		if r.total++; !w.had(i) || r.total > w.hadCount() {
			return &protocol.Error{Code: protocol.CodeBadMessage, Type: protocol.TypeBad, Field: "indexes"}
		}
		if !r.deaf {
			r.bad = append(r.bad, int64(i)) //nolint:gosec // at most MaxChunks
		}
	}
	r.running = m.End == protocol.RecheckGoesOn
	select {
	case r.wake <- struct{}{}:
	default: // it is awake
	}
	return nil
}

// had reports whether HAVE told chunk i, and hadCount how many it told.
func (w *upload) had(i uint64) bool {
	after := sort.Search(len(w.have), func(k int) bool { return w.have[k].First > i })
	return after > 0 && i-w.have[after-1].First < uint64(len(w.have[after-1].Values))
}

func (w *upload) hadCount() (n int) {
	for _, run := range w.have {
		n += len(run.Values)
	}
	return n
}

// Recheck implements tree.Writer.
func (w *upload) Recheck(ctx context.Context, bad func(index int64)) error {
	return failed("recheck", w.name, w.because(ctx, w.runRecheck(ctx, bad)))
}

func (w *upload) runRecheck(ctx context.Context, bad func(index int64)) error {
	if len(w.have) == 0 {
		return nil
	}
	wake := make(chan struct{}, 1)
	w.mu.Lock()
	if w.recheck.running {
		w.mu.Unlock()
		return errors.New("a recheck is running")
	}
	w.recheck = recheck{running: true, wake: wake}
	w.mu.Unlock()
	if err := w.lane.post(w.id, &protocol.Recheck{}); err != nil {
		return err
	}
	for {
		select {
		case <-wake:
		case <-w.ruin:
			return errUploadEnded
		case <-ctx.Done():
			w.lane.cancel(w.id)
			w.mu.Lock()
			defer w.mu.Unlock()
			w.recheck.deaf = true
			return ctx.Err()
		}
		w.mu.Lock()
		found, running := w.recheck.bad, w.recheck.running
		w.recheck.bad = nil
		w.mu.Unlock()
		for _, i := range found {
			bad(i)
		}
		if !running {
			return nil
		}
	}
}

// finish sends what ends the upload. The error is why m is no message: nothing
// was sent, and no answer comes.
func (w *upload) finish(m protocol.Message) error {
	w.mu.Lock()
	w.ending = protocol.TypeOf(m)
	w.mu.Unlock()
	err := w.lane.post(w.id, m)
	if w.lane.cause() != nil {
		return nil //nolint:nilerr // a dead stream has ended the upload
	}
	return err
}

// Commit implements tree.Writer.
func (w *upload) Commit(ctx context.Context, f tree.Final) (tree.Receipt, error) {
	r, err := w.commit(ctx, f)
	return r, failed("commit", w.name, err)
}

func (w *upload) commit(ctx context.Context, f tree.Final) (tree.Receipt, error) {
	if w.whyRuined() != nil { // chunks are lost, and COMMIT would wait for them
		err := w.because(ctx, errUploadEnded)
		return tree.Receipt{}, errors.Join(err, w.close(ctx, &protocol.Suspend{}))
	}
	values := sha256.New()
	for i := range f.Values {
		_, _ = values.Write(f.Values[i][:])
	}
	m := &protocol.Commit{
		Size:      f.Size,
		Values:    [32]byte(values.Sum(nil)),
		HasDigest: f.HasDigest,
		Attr:      attrToWire(f.Attr),
	}
	if f.HasDigest {
		m.Digest = f.Digest
	}
	w.mu.Lock()
	m.Sent = w.sent.n
	w.mu.Unlock()
	if err := w.finish(m); err != nil { // such as more attributes than fit a frame
		return tree.Receipt{}, errors.Join(err, w.close(ctx, &protocol.Suspend{}))
	}
	select {
	case <-w.over:
	case <-w.ruin:
		select {
		case <-w.over:
		default: // chunks that COMMIT waits for are lost
			w.lane.cancel(w.id)
			if err := w.await(ctx); err != nil {
				return tree.Receipt{}, w.whyRuined()
			}
		}
	case <-ctx.Done():
		w.lane.cancel(w.id)
		if err := w.await(ctx); err != nil {
			return tree.Receipt{}, ctx.Err()
		}
	}
	w.mu.Lock()
	done, ok := w.last.(*protocol.Committed)
	w.mu.Unlock()
	if ok {
		return receiptFromWire(done), nil
	}
	if why := w.whyRuined(); isCancelled(w.outcome()) {
		if ctx.Err() != nil {
			return tree.Receipt{}, ctx.Err()
		}
		if !errors.Is(why, errUploadEnded) {
			return tree.Receipt{}, why
		}
	}
	return tree.Receipt{}, w.outcome()
}

// whyRuined is why nothing can come of the upload; nil while something can.
func (w *upload) whyRuined() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.why
}

// isCancelled reports whether err is the answer to our own CANCEL.
func isCancelled(err error) bool {
	var fail *failError
	return errors.As(err, &fail) && fail.Code == protocol.CodeCancelled
}

// await waits for the upload to be over, and for cancelGrace at most.
func (w *upload) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelGrace)
	defer cancel()
	select {
	case <-w.over:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("no answer for %v", cancelGrace)
	}
}

// close ends the upload by m, SUSPEND or ABORT, and waits for the answer. An
// upload that the server has ended by itself was suspended then.
func (w *upload) close(ctx context.Context, m protocol.Message) error {
	select {
	case <-w.over:
	default:
		if err := w.finish(m); err != nil {
			return err
		}
	}
	select {
	case <-w.over:
		return w.outcome()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Suspend implements tree.Writer.
func (w *upload) Suspend(ctx context.Context) error {
	err := w.close(ctx, &protocol.Suspend{})
	if isFail(err) {
		return nil // by the time of FAIL what arrived has been suspended
	}
	return failed("suspend", w.name, err)
}

// Abort implements tree.Writer. Where the server has ended the upload before, it
// is begun once more to be thrown away, unless another run has it.
func (w *upload) Abort(ctx context.Context) error {
	err := w.close(ctx, &protocol.Abort{})
	if !isFail(err) {
		return failed("abort", w.name, err)
	}
	if taken := failed("abort", w.name, err); errors.Is(taken, tree.ErrTakenOver) || errors.Is(taken, tree.ErrBusy) || w.u.InPlace {
		return nil
	}
	u := w.u
	u.Resume, u.Durable = false, nil
	again, err := w.sess.startUpload(ctx, u, w.dir)
	if err == nil {
		err = again.close(ctx, &protocol.Abort{})
	}
	return failed("abort", w.name, err)
}

func isFail(err error) bool {
	var fail *failError
	return errors.As(err, &fail)
}
