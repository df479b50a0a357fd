package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"transferd/internal/tree"
)

// Sweep removes partials that nobody has touched for maxAge and no live writer
// holds, and returns how many. It looks only where the index says, through the
// same roots as everything else. A Store that Sub returned sweeps nothing.
func (s *Store) Sweep(ctx context.Context, maxAge time.Duration) (int, error) {
	if s.hub.index == nil || s.at != tree.Root {
		return 0, nil
	}
	dirs, err := s.hub.index.read()
	if err != nil {
		return 0, fmt.Errorf("sweep: %w", err)
	}
	now := s.hub.now()
	empty := map[indexed]bool{}
	removed := 0
	var errs []error
	for k := range dirs {
		if err := ctx.Err(); err != nil {
			errs = append(errs, err)
			break
		}
		if k.root != s.where {
			continue
		}
		n, left, err := s.sweepDir(k.dir, now.Add(-maxAge))
		removed += n
		empty[k] = left == 0 && err == nil
		errs = append(errs, err)
	}
	err = s.hub.index.shrink(ctx, func(k indexed, at time.Time) bool {
		return empty[k] && now.Sub(at) > indexLife
	})
	if err != nil {
		errs = append(errs, fmt.Errorf("sweep: %w", err))
	}
	return removed, errors.Join(errs...)
}

// sweepDir removes the expired partials of one directory and counts those that
// stay.
func (s *Store) sweepDir(path string, before time.Time) (removed, left int, err error) {
	d, err := s.dirAt(path)
	if isNotExist(err) || errors.Is(explainOrNil(err), tree.ErrNotDir) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, s.fail("sweep", tree.Path(path), err)
	}
	defer func() { _ = d.Close() }()
	removed, left, err = s.hub.sweepNames(d, before)
	return removed, left, s.fail("sweep", tree.Path(path), err)
}

// sweepNames is sweepDir for an open directory.
func (h *hub) sweepNames(d *dir, before time.Time) (removed, left int, err error) {
	list, _, err := d.openList(".")
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = list.Close() }()
	for {
		names, err := list.Readdirnames(listBatch)
		for _, name := range names {
			if !tree.IsPartialName(name) {
				continue
			}
			gone, err := h.sweepOne(d, name, before)
			switch {
			case err != nil:
				return removed, left, err
			case !gone:
				left++
			case !strings.HasSuffix(name, journalSuffix):
				removed++ // a partial and its journal are one
			}
		}
		if errors.Is(err, io.EOF) {
			return removed, left, nil
		}
		if err != nil {
			return removed, left, err
		}
	}
}

// sweepOne removes one name unless it or its other half was changed after
// before, or somebody holds it.
func (h *hub) sweepOne(d *dir, name string, before time.Time) (gone bool, err error) {
	e, err := d.lstat(name)
	if isNotExist(err) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if lastChange(e).After(before) || otherHalfLives(d, name, before) {
		return false, nil
	}
	if e.Kind != tree.KindFile { // an unfinished directory's marker
		if err := d.remove(name); err != nil && !isNotExist(err) {
			h.log.Warn("expired partial stays", "name", name, "error", explain(err))
			return false, nil
		}
		return true, nil
	}
	f, err := d.open(name, os.O_RDWR, 0, false)
	if err != nil {
		h.log.Warn("expired partial stays", "name", name, "error", explain(err))
		return false, nil
	}
	defer func() { _ = f.Close() }()
	err = h.sys.lock(f, false)
	if isUnsupported(err) {
		err = h.lockByRecord(d, name)
		if id, ierr := d.id(); ierr != nil || h.claims.holds(claimKey{dir: id, name: stemOf(name)}) {
			err = errBusy
		}
	}
	if errors.Is(err, errBusy) || !same(d, name, f) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, d.remove(name)
}

// Tidy implements tree.Tidier.
func (s *Store) Tidy(ctx context.Context, p tree.Path, origin string) error {
	return s.change(ctx, "tidy", p, func(at place) error {
		stem := tree.PartialName(origin, at.name)
		for _, suffix := range []string{partSuffix, journalSuffix} {
			if _, err := s.hub.sweepOne(at.dir, stem+suffix, s.hub.now().Add(time.Hour)); err != nil {
				return err
			}
		}
		return nil
	})
}

// otherHalfLives reports whether the journal of a partial, or the partial of a
// journal, was changed after before: both stay as long as one is in use.
func otherHalfLives(d *dir, name string, before time.Time) bool {
	other := stemOf(name) + partSuffix
	if other == name {
		other = stemOf(name) + journalSuffix
	}
	e, err := d.lstat(other)
	return err == nil && lastChange(e).After(before)
}

// stemOf cuts the suffix off the name of a partial or journal.
func stemOf(name string) string { return name[:strings.LastIndexByte(name, '.')] }

// lastChange is when e was last written or renamed. Not its mtime: a partial
// whose commit was interrupted may have that of its source.
func lastChange(e tree.Entry) time.Time {
	if e.Ctime.IsZero() {
		return e.Mtime
	}
	return e.Ctime
}

func explainOrNil(err error) error {
	if err == nil {
		return nil
	}
	return explain(err)
}
