package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"transferd/internal/tree"
)

// Begin starts or resumes an upload. A Writer of the same upload that still
// runs in this process is ended; another process is waited for, 15 s.
func (s *Store) Begin(ctx context.Context, u tree.Upload) (tree.Writer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if u.ChunkSize == 0 {
		u.ChunkSize = tree.ChunkSizeFor(u.Size)
	}
	if u.ChunkSize < 1<<10 || u.ChunkSize&(u.ChunkSize-1) != 0 || u.Size < -1 {
		return nil, s.fail("write", u.Path, fmt.Errorf("%w: chunks of %d bytes, size %d", fs.ErrInvalid, u.ChunkSize, u.Size))
	}
	// What a person typed may be a symlink to the file that is meant; what a
	// walk reaches is replaced as it is.
	at, e, found, err := s.aim(u.Path, s.isHost())
	if err != nil {
		return nil, s.fail("write", u.Path, err)
	}
	w, err := s.begin(ctx, u, at, e, found)
	if err != nil {
		_ = at.dir.Close()
		return nil, s.fail("write", u.Path, err)
	}
	return w, nil
}

// begin makes the writer, which from then on owns at.
func (s *Store) begin(ctx context.Context, u tree.Upload, at place, e tree.Entry, found bool) (tree.Writer, error) {
	if at.name == "." || (found && e.IsDir()) {
		return nil, tree.ErrIsDir
	}
	if found && e.Kind != tree.KindFile && e.Kind != tree.KindSymlink {
		return s.beginSpecial(ctx, u, at, e.Kind)
	}
	w := &writer{
		s: s, hub: s.hub, u: u, at: at,
		stem:   tree.PartialName(u.Origin, at.name),
		gate:   newGate(),
		done:   make(chan struct{}),
		chunks: map[int64]chunkState{},
		room:   make(chan struct{}),
		first:  make(chan struct{}, 1),
		full:   make(chan struct{}, 1),
	}
	if u.InPlace && (!found || e.Kind == tree.KindFile) {
		return w, w.openInPlace(found)
	}
	id, err := at.dir.id()
	if err != nil {
		return nil, err
	}
	w.key = claimKey{dir: id, name: w.stem}
	claim, err := s.hub.claims.take(ctx, w.key)
	if err != nil {
		return nil, err
	}
	w.claim = claim
	if err := w.open(ctx); err != nil {
		s.hub.claims.drop(w.key, claim)
		return nil, err
	}
	s.hub.claims.give(claim, w)
	return w, nil
}

// resumable reports whether the upload keeps a journal: a file of one chunk is
// sent again as fast as it is checked, and one of unknown size cannot be known
// again.
func resumable(u tree.Upload) bool { return u.Size > u.ChunkSize }

// open opens the partial and, for what can be resumed, its journal.
func (w *writer) open(ctx context.Context) error {
	w.hub.begun.Add(1)
	w.hub.index.add(ctx, w.s, w.at.parent)
	part, made, err := w.hub.openPrivate(ctx, w.at.dir, w.stem+partSuffix)
	w.hub.begun.Add(1) // who looked in between may not have seen it
	if err != nil {
		return w.diskFull(err)
	}
	w.part = part
	if !resumable(w.u) {
		w.fresh = true
		if made {
			return nil
		}
		// What lies there is of no use, nor is a journal that speaks of it.
		if err := w.hub.removeStep(w.at.dir, w.stem+journalSuffix); err != nil && !isNotExist(err) {
			return errors.Join(err, part.Close())
		}
		if err := w.truncate(0); err != nil {
			return errors.Join(err, part.Close())
		}
		return nil
	}
	if err := w.openJournal(ctx, made); err != nil {
		return errors.Join(w.diskFull(err), part.Close())
	}
	w.preallocate()
	if w.u.Durable != nil {
		w.u.Durable(nil) // there is a journal
	}
	w.flushed = make(chan struct{})
	go w.flushLoop()
	return nil
}

func (w *writer) openJournal(ctx context.Context, made bool) error {
	want := tree.JournalHeader{Size: w.u.Size, ChunkSize: w.u.ChunkSize, Source: w.u.Source}
	j, err := w.hub.openJournal(ctx, w.at.dir, w.stem+journalSuffix, w.at.name, want, w.u.Resume && !made)
	if err != nil {
		return err
	}
	w.journal = j
	e, err := fileEntry(w.part, "")
	if err == nil {
		err = w.keep(e.Size)
	}
	if err != nil {
		w.journal = nil
		return errors.Join(err, j.Close())
	}
	return nil
}

// keep takes over what the journal found and the partial, of size bytes, has.
func (w *writer) keep(size int64) error {
	var gone []int64
	for i, v := range w.journal.Have() {
		x := tree.ChunkExtent(i, w.u.Size, w.u.ChunkSize)
		if x.End() > size {
			gone = append(gone, i)
			continue
		}
		w.chunks[i] = chunkState{value: v, size: x.Length, kept: true, recorded: true}
	}
	for _, i := range gone {
		delete(w.journal.have, i)
	}
	if len(w.chunks) > 0 {
		return w.journal.Forget(gone)
	}
	// Nothing is known of the bytes that lie there: away with them, so that
	// holes are holes.
	w.fresh = true
	if size == 0 {
		return nil
	}
	return w.truncate(0)
}

func (w *writer) truncate(size int64) error {
	if err := w.hub.before(step{op: stepTruncate, dir: w.at.dir, name: w.partName(), off: size}); err != nil {
		return err
	}
	return w.part.Truncate(size)
}

// preallocate gives the partial its blocks in one piece, which is faster and
// keeps them ours. Where it cannot be done, writing does without.
func (w *writer) preallocate() {
	if w.u.Sparse || w.u.Size <= 0 {
		return
	}
	space, err := w.at.dir.statfs()
	if err != nil || space.Available < uint64(w.u.Size) {
		return
	}
	_ = w.hub.sys.preallocate(w.part, w.u.Size)
}

// openInPlace opens the final name itself.
func (w *writer) openInPlace(found bool) error {
	flags := os.O_RDWR | os.O_CREATE
	if w.u.NoReplace || !found {
		flags |= os.O_EXCL
	}
	f, err := w.at.dir.open(w.at.name, flags, 0o666, false)
	if errors.Is(err, fs.ErrExist) && !w.u.NoReplace && !found {
		// Somebody has made it meanwhile. It is not ours to remove, and what is
		// not written need not read as zeros.
		found = true
		f, err = w.at.dir.open(w.at.name, os.O_RDWR|os.O_CREATE, 0o666, false)
	}
	if err != nil {
		return err
	}
	w.part, w.inPlace, w.fresh = f, true, !found
	return nil
}
