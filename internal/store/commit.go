package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"transferd/internal/tree"
)

// Commit publishes the file. Until the rename the old one is whole; after it
// the new one is, on the disk and not only in memory.
func (w *writer) Commit(ctx context.Context, f tree.Final) (tree.Receipt, error) {
	if err := w.gate.end(tree.ErrClosed); err != nil {
		return tree.Receipt{}, w.fail("commit", err)
	}
	w.stopFlusher()
	err := w.commit(ctx, f)
	if err != nil {
		err = w.fail("commit", w.diskFull(err))
		if perr := w.putAway(); perr != nil && !errors.Is(err, perr) {
			w.hub.log.WarnContext(ctx, "partial not kept", "path", w.u.Path.String(), "error", perr)
		}
	}
	if rerr := w.release(); err == nil {
		err = w.fail("commit", rerr)
	}
	r := tree.Receipt{Verified: tree.VerifiedDigest, Volatile: w.u.Fsync == tree.FsyncOff}
	if w.u.Verify == tree.VerifyFull {
		r.Verified = tree.VerifiedFull
	}
	return r, err
}

func (w *writer) commit(ctx context.Context, f tree.Final) error {
	if w.journal != nil {
		if err := w.flush(); err != nil {
			return err
		}
	}
	if err := w.settle(ctx, f); err != nil {
		return err
	}
	if w.u.Verify == tree.VerifyFull {
		if err := w.syncData(); err != nil {
			return err
		}
		if err := w.readBack(ctx, f.Size); err != nil {
			return err
		}
	}
	if err := w.setAttr(f.Attr); err != nil {
		return err
	}
	if w.u.Fsync != tree.FsyncOff {
		if err := w.hub.before(step{op: stepSync, dir: w.at.dir, name: w.partName()}); err != nil {
			return err
		}
		if err := w.hub.sys.sync(w.part); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return w.publish()
}

// settle makes sure that the partial is exactly the file: every chunk arrived
// with the value that the source has, what was kept was read again, and holes
// are holes.
func (w *writer) settle(ctx context.Context, f tree.Final) error {
	count := tree.ChunkCount(f.Size, w.u.ChunkSize)
	switch {
	case f.Size < 0 || (w.u.Size >= 0 && f.Size != w.u.Size):
		return fmt.Errorf("%w: %d bytes, not %d", tree.ErrIntegrity, f.Size, w.u.Size)
	case len(f.Values) != 0 && int64(len(f.Values)) != count:
		return fmt.Errorf("%w: %d values for %d chunks", fs.ErrInvalid, len(f.Values), count)
	}
	bad := 0
	if err := w.recheck(ctx, nil, func(int64) { bad++ }); err != nil {
		return err
	}
	if bad > 0 {
		return fmt.Errorf("%w: %d chunks of an earlier run are bad", tree.ErrIntegrity, bad)
	}
	for i := range count {
		if err := w.settleChunk(i, f); err != nil {
			return err
		}
	}
	if err := checkDigest(f); err != nil {
		return err
	}
	e, err := fileEntry(w.part, "")
	if err != nil || e.Size == f.Size {
		return err
	}
	return w.truncate(f.Size)
}

func (w *writer) settleChunk(i int64, f tree.Final) error {
	st, known := w.chunks[i]
	x := tree.ChunkExtent(i, f.Size, w.u.ChunkSize)
	var want tree.Value // zero: a hole, or the caller does not say
	if len(f.Values) > 0 {
		want = f.Values[i]
	}
	hole := want == tree.Value{} && w.u.Sparse
	switch {
	case known && !st.writing && (want == st.value || len(f.Values) == 0):
		if st.size != x.Length {
			return fmt.Errorf("%w: chunk %d has %d bytes, not %d", tree.ErrIntegrity, i, st.size, x.Length)
		}
		return nil
	case f.Size == 0:
		return nil
	case hole && w.fresh && !known:
		return nil
	case hole:
		// Data of an older version of the source lies where it has a hole now.
		delete(w.chunks, i)
		if st.recorded {
			if err := w.journal.forget([]int64{i}, w.u.Fsync != tree.FsyncOff); err != nil {
				return err
			}
		}
		return w.zero(x)
	case !known || st.writing:
		return fmt.Errorf("%w: chunk %d never arrived", tree.ErrIntegrity, i)
	}
	if st.recorded {
		if err := w.journal.Forget([]int64{i}); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: chunk %d is not that of the source", tree.ErrIntegrity, i)
}

// checkDigest holds the caller's digest against its own values, where these
// are complete.
func checkDigest(f tree.Final) error {
	if !f.HasDigest || len(f.Values) == 0 {
		return nil
	}
	for _, v := range f.Values {
		if v == (tree.Value{}) {
			return nil
		}
	}
	if got := tree.MergeValues(f.Values); got != f.Digest {
		return fmt.Errorf("%w: the chunks make %v, not %v", tree.ErrIntegrity, got, f.Digest)
	}
	return nil
}

// setAttr gives the partial, by its handle, what the final name shall have.
func (w *writer) setAttr(attr tree.Attr) error {
	attr.Size = nil
	if !w.hub.owners {
		attr.Owner = nil
	}
	if attr.Perm == nil && !w.inPlace {
		perm := 0o666 &^ w.hub.umask()
		if e, err := w.at.dir.lstat(w.at.name); err == nil && e.Kind == tree.KindFile {
			perm = e.Perm &^ setIDs // these were given to the old bytes
		}
		attr.Perm = &perm
	}
	return w.hub.setFileAttr(w.part, attr)
}

// publish gives the partial its final name.
func (w *writer) publish() error {
	if w.inPlace {
		if w.fresh && w.u.Fsync != tree.FsyncOff {
			return w.hub.syncDir(w.at.dir)
		}
		return nil
	}
	part := place{dir: w.at.dir, name: w.partName()}
	if !w.hub.owned(part, w) {
		return fmt.Errorf("%w: its partial was replaced", tree.ErrBusy)
	}
	if err := w.hub.before(step{op: stepRename, dir: w.at.dir, name: part.name, to: w.at.name}); err != nil {
		return err
	}
	var err error
	if w.u.NoReplace {
		err = w.hub.renameNoReplace(part, w.at)
	} else {
		err = part.dir.rename(part.name, w.at.dir, w.at.name)
	}
	if err != nil {
		return err
	}
	w.published = true
	if w.u.Fsync != tree.FsyncOff {
		if err := w.hub.syncDir(w.at.dir); err != nil {
			return err
		}
	}
	// Only now: should the rename be lost with the power, the journal is what
	// the next run resumes from.
	if w.journal != nil {
		return w.hub.removeStep(w.at.dir, w.stem+journalSuffix)
	}
	return nil
}

// owned reports whether the name at a place still is w's partial: where the
// filesystem has no locks another process may have taken it for a stale one.
func (h *hub) owned(at place, w *writer) bool { return same(at.dir, at.name, w.part) }
