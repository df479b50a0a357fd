package sftp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"transferd/internal/tree"
)

// suspendTime bounds how long a commit that failed goes on to save what arrived.
const suspendTime = 10 * time.Second

// defaultPerm is the mode of a new file whose commit names none. What the
// account's umask would give cannot be asked for over SFTP.
const defaultPerm tree.Perm = 0o644

// Commit implements tree.Writer.
func (w *upload) Commit(ctx context.Context, f tree.Final) (tree.Receipt, error) {
	if !w.end() {
		return tree.Receipt{}, tree.ErrClosed
	}
	defer w.unlock()
	receipt, err := w.commit(ctx, f)
	if err == nil {
		return receipt, nil
	}
	err = w.explain(ctx, "commit", err)
	sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), suspendTime)
	defer cancel()
	if serr := w.suspend(sctx); serr != nil {
		w.c.log.DebugContext(ctx, "suspend after a failed commit", "path", w.target, "error", serr)
	}
	return tree.Receipt{}, err
}

func (w *upload) commit(ctx context.Context, f tree.Final) (tree.Receipt, error) {
	receipt := tree.Receipt{Verified: tree.VerifiedSampled, Volatile: !w.syncs()}
	full := w.u.Verify == tree.VerifyFull && w.place != placeDevice && w.place != placeStream
	if w.f.spread || full || w.place == placeStream {
		// Otherwise everything is on one lane, where the server keeps the order.
		if err := w.settle(ctx); err != nil {
			return receipt, err
		}
	}
	if err := w.finish(ctx, f, !full); err != nil {
		return receipt, err
	}
	if full {
		if err := w.verify(ctx, f); err != nil {
			return receipt, err
		}
		if err := w.f.close(ctx); err != nil {
			return receipt, fmt.Errorf("close: %w", err)
		}
		receipt.Verified = tree.VerifiedFull
	}
	if err := w.publish(ctx, f); err != nil {
		return receipt, err
	}
	for _, part := range w.stale {
		// What cannot be removed is no reason to call the copy failed.
		if err := w.f.first.status(ctx, queryOn(typeRemove, part)); err != nil {
			w.c.log.DebugContext(ctx, "partial of a killed run stays", "path", part, "error", err)
		}
	}
	if w.j != nil {
		return receipt, w.j.Remove()
	}
	return receipt, nil
}

// A step is one of several requests that follow each other without waiting.
type step struct {
	op string
	*call
}

// finish sets the attributes, makes everything durable and compares the size,
// all in one round trip, right behind the data where that is on the same lane.
// With last it closes the file too.
func (w *upload) finish(ctx context.Context, f tree.Final, last bool) error {
	l, h, err := w.f.firstHandle()
	if err != nil {
		return err
	}
	var steps []step
	add := func(op string, r query) error {
		c := newCall()
		steps = append(steps, step{op, c})
		return l.send(ctx, r, c)
	}
	regular := w.place == placePartial || w.place == placeFile
	if regular {
		for _, a := range attrSteps(w.finalAttr(f)) {
			err = errors.Join(err, add("set attributes", queryOn(typeFsetstat, h).attrs(a)))
		}
	}
	if w.syncs() {
		err = errors.Join(err, add("fsync", extended(extFsync, h)))
	}
	if regular {
		err = errors.Join(err, add("stat", queryOn(typeFstat, h)))
	}
	if last && err == nil {
		w.f.release()
		err = add("close", queryOn(typeClose, h))
	}
	if err != nil {
		return err
	}
	// The answers of the WRITEs come first, and say best what went wrong.
	if err := w.settle(ctx); err != nil {
		return err
	}
	for _, s := range steps {
		if err := w.finished(ctx, s, f.Size); err != nil {
			return fmt.Errorf("%s: %w", s.op, err)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.synced = w.syncs()
	return nil
}

// finished looks at the answer of one step of finish.
func (w *upload) finished(ctx context.Context, s step, size int64) error {
	if err := s.wait(ctx); err != nil {
		return err
	}
	if s.op != "stat" {
		return s.status()
	}
	a, err := s.attrs()
	if err != nil {
		return err
	}
	if a.flags&attrSize == 0 || a.size != uint64(size) { //nolint:gosec // sizes are not negative
		return fmt.Errorf("%w: the server has %d bytes of %d", tree.ErrIntegrity, a.size, size)
	}
	return nil
}

// finalAttr is what the file gets when its bytes are complete.
func (w *upload) finalAttr(f tree.Final) tree.Attr {
	attr := f.Attr
	if attr.Perm == nil && w.place == placePartial {
		perm := defaultPerm
		if w.was.flags&attrPerm != 0 && kindOf(w.was.mode) == tree.KindFile {
			perm = tree.Perm(w.was.mode) & tree.PermMask
		}
		attr.Perm = &perm
	}
	if attr.Perm != nil && attr.Owner == nil {
		// Setuid and setgid belong to the owner that the file had elsewhere.
		perm := *attr.Perm &^ 0o6000
		attr.Perm = &perm
	}
	if attr.Mtime != nil && attr.Atime == nil {
		now := time.Now()
		attr.Atime = &now
	}
	if attr.Mtime == nil {
		attr.Atime = nil // cannot be set alone
	}
	// A hole at the end, or more than there should be from before. Where every
	// byte is written the size is compared instead, not made.
	attr.Size = nil
	if w.u.Sparse || len(w.have) > 0 || w.place == placeFile {
		attr.Size = &f.Size
	}
	return attr
}

// publish gives the partial its final name.
func (w *upload) publish(ctx context.Context, f tree.Final) error {
	if w.place != placePartial {
		return nil
	}
	how := tree.RenameReplace
	if w.u.NoReplace {
		how = tree.RenameNoReplace
	}
	err := w.f.first.rename(ctx, w.part, w.target, how)
	if errors.Is(err, fs.ErrNotExist) && w.published(ctx, f) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("rename: %w", err)
	}
	return nil
}

// published reports whether the final name is the partial already: the server
// has carried out the last request of a run that was killed, whose partial this
// one continued.
func (w *upload) published(ctx context.Context, f tree.Final) bool {
	if f.Attr.Mtime == nil {
		return false
	}
	a, err := w.f.first.stat(ctx, queryOn(typeLstat, w.target))
	return err == nil && kindOf(a.mode) == tree.KindFile && a.flags&attrSize != 0 && a.flags&attrTimes != 0 &&
		a.size == uint64(f.Size) && a.mtime == secondsOf(*f.Attr.Mtime) && //nolint:gosec // sizes are not negative
		(a.size != w.was.size || a.mtime != w.was.mtime)
}
