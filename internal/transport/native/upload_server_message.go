package native

import (
	"context"
	"time"

	"transferd/internal/tree"
	"transferd/protocol"
)

// refused ends the upload by a message of its client that is none.
func (u *serverUpload) refused(e *protocol.Error) { u.fail(e) }

// message takes what the client says about the upload. What comes behind its
// end has crossed the last answer.
func (u *serverUpload) message(m protocol.Message) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, ok := m.(*protocol.Cancel); ok {
		u.cancelLocked()
		return
	}
	if u.failure != nil || u.end != nil || u.drained {
		return
	}
	switch m := m.(type) {
	case *protocol.Recheck:
		if u.checking {
			u.failLocked(refuse(protocol.CodeBadState, "chunks are being read again already"))
			return
		}
		ctx, cancel := context.WithCancel(u.ctx)
		u.checking, u.uncheck = true, cancel
		u.session.group.Go(func() { u.recheck(ctx, cancel) })
	case *protocol.Commit:
		n := xattrBytes(m.Attr.Xattrs)
		if !u.session.attrs.take(n) {
			u.failLocked(refuse(protocol.CodeLimit, "too many extended attributes at the same time"))
			return
		}
		u.attrs, u.end, u.lastData = n, m, time.Now()
	case *protocol.Suspend, *protocol.Abort:
		u.end = m
		u.shutLocked()
		u.stopChecking()
	}
	u.nudge()
}

// xattrBytes is how much memory list takes.
func xattrBytes(list []protocol.Xattr) (n int64) {
	for _, x := range list {
		n += int64(len(x.Name)+len(x.Value)) + xattrHeader
	}
	return n
}

// xattrHeader is what an extended attribute takes besides its bytes.
const xattrHeader = 64

// cancelLocked stops what runs: the beginning, a RECHECK, or a COMMIT and the
// upload with it.
func (u *serverUpload) cancelLocked() {
	u.unbegin()
	u.stopChecking()
	if _, ok := u.end.(*protocol.Commit); ok {
		u.failLocked(context.Canceled)
	}
}

// stopChecking ends the RECHECK that runs. The caller holds mu.
func (u *serverUpload) stopChecking() {
	if u.uncheck != nil {
		u.uncheck()
	}
}

// recheck reads again what an earlier run left.
func (u *serverUpload) recheck(ctx context.Context, cancel context.CancelFunc) {
	defer cancel()
	end, err := u.recheckTo(ctx)
	if err != nil {
		u.fail(err)
	} else if perr := u.st.post(u.id, &protocol.Bad{End: end}); perr != nil {
		u.fail(perr)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.checking, u.uncheck = false, nil
	u.changed.Broadcast()
	u.nudge()
}

func (u *serverUpload) recheckTo(ctx context.Context) (protocol.RecheckEnd, error) {
	<-u.ready
	if u.writer == nil {
		return 0, tree.ErrClosed // and that is told otherwise
	}
	err := u.writer.Recheck(ctx, func(i int64) {
		u.drop(i)
		_ = u.st.post(u.id, &protocol.Bad{Indexes: []uint64{uint64(i)}}) //nolint:gosec // not negative
	})
	if ctx.Err() != nil {
		return protocol.RecheckStopped, nil //nolint:nilerr // that is why
	}
	return protocol.RecheckDone, err
}
