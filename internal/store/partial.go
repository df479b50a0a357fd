package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"transferd/internal/tree"
)

const (
	partSuffix    = ".part"
	journalSuffix = ".journal"
)

// openPrivate opens or makes the file name in d, ours alone and locked. A file
// there that others can have planted or written (a symlink, a second hard
// link, another owner) is removed, never continued: its bytes would become
// theirs, or ours something of theirs.
//
// The lock is of the file, not of the name, so it counts only while the name
// still means the file: whoever holds it may remove or rename the name.
func (h *hub) openPrivate(ctx context.Context, d *dir, name string) (f *os.File, made bool, err error) {
	var wait waiting
	for {
		f, made, err = h.openOrMake(d, name)
		if err != nil {
			return nil, false, err
		}
		err := h.sys.lock(f, false)
		if isUnsupported(err) {
			err = h.lockByRecord(d, name)
		}
		if errors.Is(err, errBusy) {
			if err := errors.Join(f.Close(), wait.again(ctx, h)); err != nil {
				if errors.Is(err, errBusy) {
					return nil, false, busy(d, name)
				}
				return nil, false, err
			}
			continue
		}
		if err != nil {
			return nil, false, errors.Join(err, f.Close())
		}
		if same(d, name, f) {
			return f, made, nil
		}
		if err := f.Close(); err != nil {
			return nil, false, err
		}
	}
}

func (h *hub) openOrMake(d *dir, name string) (f *os.File, made bool, err error) {
	for range 100 { // each round somebody else has removed or made it
		f, err = h.makePrivate(d, name)
		if !errors.Is(err, fs.ErrExist) {
			return f, err == nil, err
		}
		f, err = d.open(name, os.O_RDWR, 0, false)
		if err == nil {
			var e tree.Entry
			if e, err = fileEntry(f, name); err != nil {
				return nil, false, errors.Join(err, f.Close())
			}
			if isPrivate(e) {
				return f, false, nil
			}
			if err := f.Close(); err != nil {
				return nil, false, err
			}
		}
		switch {
		case isNotExist(err):
			continue
		case err != nil && !isLink(err) && !errors.Is(err, tree.ErrNotRegular) && !errors.Is(err, fs.ErrPermission):
			return nil, false, err // such as too many open files: what is there may be good
		}
		if err := h.removeStep(d, name); err != nil && !isNotExist(err) {
			return nil, false, err
		}
	}
	return nil, false, fmt.Errorf("%w: its partial is made and removed all the time", tree.ErrBusy)
}

func (h *hub) makePrivate(d *dir, name string) (*os.File, error) {
	if err := h.before(step{op: stepCreate, dir: d, name: name}); err != nil {
		return nil, err
	}
	return d.open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600, false)
}

// same reports whether name still means the open file f.
func same(d *dir, name string, f *os.File) bool {
	e, err := d.lstat(name)
	if err != nil {
		return false
	}
	o, err := fileEntry(f, name)
	return err == nil && e.Inode == o.Inode && e.Device == o.Device
}

// lockByRecord is the lock of filesystems that have none: the owner that the
// journal names, if it is a process of this machine and still runs. Two
// machines are not kept apart this way.
func (h *hub) lockByRecord(d *dir, name string) error {
	h.log.Warn("filesystem has no locks", "name", name)
	st := peekJournal(d, name)
	if st == nil || st.pid == 0 || st.pid == int64(os.Getpid()) {
		return nil
	}
	if st.host == thisHost() && isProcessAlive(int(st.pid)) {
		return errBusy
	}
	return nil
}

// busy says who holds the lock of partial name, if its journal tells.
func busy(d *dir, name string) error {
	if st := peekJournal(d, name); st != nil && st.holder() != "" {
		return fmt.Errorf("%w: %s", tree.ErrBusy, st.holder())
	}
	return tree.ErrBusy
}

// peekJournal reads the journal that belongs to partial name without its lock.
func peekJournal(d *dir, name string) *journalState {
	if stem, ok := strings.CutSuffix(name, partSuffix); ok {
		name = stem + journalSuffix
	}
	f, err := d.open(name, os.O_RDONLY, 0, false)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	st, err := readJournal(f)
	if err != nil {
		return nil
	}
	return st
}

// waiting is the patience with somebody else's lock. The zero value is ready.
type waiting struct{ deadline time.Time }

// again returns when it is time for another try: errBusy when patience is at
// its end.
func (w *waiting) again(ctx context.Context, h *hub) error {
	now := time.Now()
	if w.deadline.IsZero() {
		w.deadline = now.Add(h.tuning.lockWait)
	}
	if !now.Before(w.deadline) {
		return errBusy
	}
	t := time.NewTimer(h.tuning.lockPoll)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
