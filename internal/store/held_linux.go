package store

import (
	"sync"
	"time"

	"transferd/internal/tree"
)

const (
	// holdFor is how long a directory is held under its path before the path is
	// looked up again. What this process moves or removes is noticed at once;
	// what another one does, so late.
	holdFor = 100 * time.Millisecond

	// maxHeld bounds the handles of a Store that nobody is using: two each.
	maxHeld = 32
)

// heldDirs are the directories in which a Store has just read or made small
// files. Opening each anew would cost as much as the reading. The zero value is
// ready.
type heldDirs struct {
	mu     sync.Mutex
	byPath map[string]*heldDir
	timer  *time.Timer // closes what is no longer used; nil: nothing is held
	closed bool
}

// A heldDir is a directory with what was found in it.
type heldDir struct {
	*dir
	survey
	begun  uint64    // hub.begun when clean was true
	opened time.Time // an error of the filesystem since then is told by its syncs

	// Guarded by heldDirs.mu.
	seen  time.Time // when its path led here
	moved uint64    // hub.moved then
	users int
	gone  bool // no longer in the map: the last user closes it
}

// isClean reports whether no upload can have left or made a partial here.
func (d *heldDir) isClean(h *hub) bool { return d.clean && d.begun == h.begun.Load() }

// hold returns the directory that path leads to. The caller lets go of it.
func (s *Store) hold(path string) (*heldDir, error) {
	moved, now := s.hub.moved.Load(), time.Now()
	s.held.mu.Lock()
	d := s.held.byPath[path]
	if d != nil && d.moved == moved && now.Sub(d.seen) < holdFor {
		d.users++
		s.held.mu.Unlock()
		return d, nil
	}
	s.held.mu.Unlock()

	fresh, err := s.dirAt(path)
	if err != nil {
		return nil, err
	}
	id, err := fresh.id()
	if err != nil {
		_ = fresh.Close()
		return nil, err
	}
	if d := s.held.renew(s.hub, path, id, moved, now); d != nil {
		_ = fresh.Close()
		return d, nil
	}
	if err := fresh.prepare(); err != nil {
		_ = fresh.Close()
		return nil, err
	}
	d = &heldDir{dir: fresh, begun: s.hub.begun.Load(), opened: now, seen: now, moved: moved, users: 1}
	d.survey = fresh.look()
	s.held.put(path, d)
	return d, nil
}

// renew returns the directory held under path if it still is id. One in which
// there may be partials by now is looked through again instead.
func (l *heldDirs) renew(h *hub, path string, id dirID, moved uint64, now time.Time) *heldDir {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.byPath[path]
	if d == nil || d.self != id || !d.isClean(h) {
		return nil
	}
	d.seen, d.moved = now, moved
	d.users++
	return d
}

func (l *heldDirs) put(path string, d *heldDir) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		d.gone = true
		return
	}
	l.drop(path)
	for other, o := range l.byPath {
		if len(l.byPath) < maxHeld {
			break
		}
		if o.users == 0 {
			l.drop(other)
		}
	}
	if len(l.byPath) >= maxHeld {
		d.gone = true // all are in use: this one is not kept
		return
	}
	if l.byPath == nil {
		l.byPath = map[string]*heldDir{}
	}
	l.byPath[path] = d
	if l.timer == nil {
		l.timer = time.AfterFunc(2*holdFor, l.expire)
	}
}

// drop is called with mu held.
func (l *heldDirs) drop(path string) {
	d := l.byPath[path]
	if d == nil {
		return
	}
	delete(l.byPath, path)
	d.gone = true
	if d.users == 0 {
		_ = d.Close()
	}
}

// letGo ends the use of d.
func (l *heldDirs) letGo(d *heldDir) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.users--; d.users == 0 && d.gone {
		_ = d.Close()
	}
}

// forget makes the next one look up path again.
func (l *heldDirs) forget(path string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop(path)
}

// expire closes what was not used lately, for a held directory keeps its
// filesystem from being unmounted.
func (l *heldDirs) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for path, d := range l.byPath {
		if time.Since(d.seen) >= holdFor {
			l.drop(path)
		}
	}
	l.timer = nil
	if len(l.byPath) > 0 && !l.closed {
		l.timer = time.AfterFunc(2*holdFor, l.expire)
	}
}

// close lets go of everything.
func (l *heldDirs) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	for path := range l.byPath {
		l.drop(path)
	}
}

// readSmall reads the file that p leads to, unless it is larger than limit.
func (s *Store) readSmall(p tree.Path, limit int64) (tree.Entry, []byte, error) {
	parent, name := split(string(p))
	d, err := s.hold(parent)
	if err != nil {
		return tree.Entry{}, nil, err
	}
	e, data, err := d.readSmall(name, limit)
	s.held.letGo(d)
	switch {
	case isNotExist(err):
		s.held.forget(parent)
	case isLink(err):
	default:
		return e, data, err
	}
	return s.readLinked(p, limit)
}
