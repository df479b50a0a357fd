package transfer

import (
	"context"
	"errors"
	"io/fs"

	"transferd/internal/tree"
)

// The copy of a directory to a new name is marked as unfinished from the moment
// it has that name until nothing is left to do for it, so that after a kill the
// same command knows it again and does not nest. With M the name of its mark:
//
//  1. The directory M is made beside the name, in it the mark, a file M.
//  2. It is renamed to the name. So there is either nothing or a marked copy.
//  3. Everything is copied into it, directories in it get their attributes.
//  4. The directory M is made once more beside the copy, as a mark outside,
//     because no attribute of the copy is final while a name in it goes.
//  5. The mark inside is removed.
//  6. The copy gets its attributes.
//  7. The mark outside is removed.
//
// Each step can be done again after it was done, and all of them whenever a mark
// is found. A copy in which something failed keeps its mark.

// markName is the name of the mark of a copy from origin at p.
func markName(origin string, p tree.Path) string {
	return tree.PartialName(origin, p.Base()) + ".dir"
}

// isUnfinished reports whether directory p of the destination is a copy from
// origin that was broken off.
func (c *copier) isUnfinished(ctx context.Context, label, origin string, p tree.Path) (bool, error) {
	mark := markName(origin, p)
	there := func(p tree.Path) (bool, error) {
		_, err := retryValue(ctx, c, label, func() (tree.Entry, error) { return c.sink.Lstat(ctx, p) })
		if isMissing(err) {
			return false, nil
		}
		return err == nil, err
	}
	if inside, err := there(p.Join(mark)); inside || err != nil || p == tree.Root {
		return inside, err
	}
	outside := p.Parent().Join(mark)
	if is, err := there(outside); !is || err != nil {
		return false, err
	}
	// One with a mark in it is left from step 1; what has the name now is not
	// of that copy.
	begun, err := there(outside.Join(mark))
	return !begun && err == nil, err
}

// makeRoot makes the directory p.to with a mark in it, steps 1 and 2. It can be
// called again after it failed half-way.
func (c *copier) makeRoot(ctx context.Context, p pair, e tree.Entry, mark string) error {
	if made, err := p.dst.Lstat(ctx, p.to); err == nil && made.IsDir() {
		return nil // by an earlier attempt, before the connection broke
	}
	tmp := p.to.Parent().Join(mark)
	if err := p.dst.Mkdir(ctx, tmp, c.openPerm(e)); err != nil && !errors.Is(err, fs.ErrExist) {
		if isMissing(err) {
			// It is the directory around that is missing: say so.
			_, err = p.dst.Stat(ctx, p.to.Parent())
		}
		return err
	}
	if err := putMark(ctx, p.dst, tmp.Join(mark), c.opt.Fsync); err != nil {
		return err
	}
	return p.dst.Rename(ctx, tmp, p.to, tree.RenameNoReplace)
}

// putMark makes the mark: an empty file, published like any other.
func putMark(ctx context.Context, dst tree.Sink, p tree.Path, fsync tree.Fsync) error {
	v := tree.ChunkValue(nil, 0, tree.MinChunkSize, true)
	perm := tree.Perm(0o600)
	if put, ok := dst.(tree.Putter); ok {
		s := tree.Small{Path: p, Origin: "mark", Fsync: fsync, Digest: tree.Digest(v), Attr: tree.Attr{Perm: &perm}}
		if _, err := put.Put(ctx, s); !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	w, err := dst.Begin(ctx, tree.Upload{Path: p, ChunkSize: tree.MinChunkSize, Origin: "mark", Fsync: fsync})
	if err != nil {
		return err
	}
	if err := w.WriteChunk(ctx, tree.Chunk{Value: v}); err != nil {
		return suspend(ctx, w, err)
	}
	_, err = w.Commit(ctx, tree.Final{
		Values: []tree.Value{v}, Digest: tree.Digest(v), HasDigest: true, Attr: tree.Attr{Perm: &perm},
	})
	return err
}

// finishRoot does steps 4 to 7, of which only the sixth is done for a copy that
// has no mark or keeps it.
func (c *copier) finishRoot(ctx context.Context, t *copiedTree) error {
	outside := t.at.Parent().Join(t.mark)
	marked := t.mark != "" && !t.failed.Load()
	if marked {
		err := c.retry(ctx, t.label, func() error {
			if err := ignoreExist(c.sink.Mkdir(ctx, outside, 0o700)); err != nil {
				return err
			}
			return ignoreMissing(t.top.dst.Remove(ctx, t.top.to.Join(t.mark)))
		})
		if err != nil {
			return c.fail(ctx, t, 0, t.label, err)
		}
	}
	if err := c.finishDir(ctx, t.top); err != nil {
		return err
	}
	if !marked || t.failed.Load() {
		return nil
	}
	err := c.retry(ctx, t.label, func() error { return ignoreMissing(c.sink.Remove(ctx, outside)) })
	if err != nil {
		return c.fail(ctx, t, 0, t.label, err)
	}
	return nil
}

func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

func ignoreMissing(err error) error {
	if isMissing(err) {
		return nil
	}
	return err
}

func ignoreExist(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}
