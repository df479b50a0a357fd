package store

import (
	"errors"
	"io/fs"
	"maps"
	"sync"

	"transferd/internal/tree"
)

// dirSyncs makes names durable. Those who want the same directory at the same
// time share one fsync, which begins after all of them asked: ten thousand
// small files in one directory do not cost ten thousand. The zero value is
// ready.
type dirSyncs struct {
	mu     sync.Mutex
	groups map[dirID]*dirGroup
	made   map[dirID]uint64 // directories whose own name is not durable yet, by when they were made
	last   uint64           // the latest of those times
}

type dirGroup struct {
	running bool
	next    *dirFlight
}

type dirFlight struct {
	lead chan struct{} // size 1: whoever takes its token leads
	done chan struct{}
	err  error
}

// maxMade bounds dirSyncs.made; beyond, everything is synced at once.
const maxMade = 4096

// sync returns when the names in d are durable, and those of the directories
// that this process made above it.
func (h *hub) syncDir(d *dir) error {
	id, err := d.id()
	if err != nil {
		return err
	}
	if err := h.dirs.sync(id, func() error { return h.syncDirOnce(d) }); err != nil {
		return err
	}
	made := h.dirs.whenMade(id)
	if made == 0 {
		return nil
	}
	up, err := d.parent()
	if err == nil {
		err = errors.Join(h.syncDir(up), up.Close())
	}
	if err == nil { // not before: who comes meanwhile waits for it as well
		h.dirs.takeMade(id, made)
	}
	return err
}

func (h *hub) syncDirOnce(d *dir) error {
	if err := h.before(step{op: stepSyncDir, dir: d}); err != nil {
		return err
	}
	err := h.sys.syncDir(d)
	if errors.Is(err, fs.ErrPermission) || isUnsupported(err) || isInvalid(err) {
		// A directory that may be written but not read (mode 0300) cannot be
		// opened for fsync, and some filesystems have none for directories.
		// There the sync of the file itself is all that can be done.
		return nil
	}
	return err
}

func (s *dirSyncs) sync(id dirID, fsync func() error) error {
	s.mu.Lock()
	if s.groups == nil {
		s.groups = map[dirID]*dirGroup{}
	}
	g := s.groups[id]
	if g == nil {
		g = &dirGroup{}
		s.groups[id] = g
	}
	if !g.running {
		g.running = true
		s.mu.Unlock()
		return s.lead(id, g, fsync)
	}
	f := g.next
	if f == nil {
		f = &dirFlight{lead: make(chan struct{}, 1), done: make(chan struct{})}
		g.next = f
	}
	s.mu.Unlock()
	select {
	case <-f.done:
		return f.err
	case <-f.lead:
		s.mu.Lock()
		g.next = nil // who asks from now on is not in this flight
		s.mu.Unlock()
		f.err = s.lead(id, g, fsync)
		close(f.done)
		return f.err
	}
}

// lead runs one fsync and then hands the group to those who came meanwhile.
func (s *dirSyncs) lead(id dirID, g *dirGroup, fsync func() error) error {
	err := fsync()
	s.mu.Lock()
	defer s.mu.Unlock()
	if g.next != nil {
		g.next.lead <- struct{}{}
		return err
	}
	g.running = false
	delete(s.groups, id)
	return err
}

// noteMade remembers that the new directory at a place is not durable yet.
func (h *hub) noteMade(at place) error {
	e, err := at.dir.lstat(at.name)
	if err != nil {
		return nil //nolint:nilerr // removed meanwhile
	}
	if h.dirs.putMade(dirID{dev: e.Device, ino: e.Inode}) {
		return nil
	}
	// Too many to remember: one sync of all settles them.
	before := h.dirs.lastMade()
	if err := h.sys.syncFS(at.dir); err != nil {
		return err
	}
	h.dirs.forgetMade(e.Device, before)
	return nil
}

// putMade reports whether there was room.
func (s *dirSyncs) putMade(id dirID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made == nil {
		s.made = map[dirID]uint64{}
	}
	if len(s.made) >= maxMade {
		return false
	}
	s.last++
	s.made[id] = s.last
	return true
}

func (s *dirSyncs) lastMade() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// forgetMade is for what was made on a filesystem by the time of last.
func (s *dirSyncs) forgetMade(dev, last uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.made, func(id dirID, made uint64) bool { return id.dev == dev && made <= last })
}

// whenMade tells by when a directory was made whose own name is not durable;
// 0: it is.
func (s *dirSyncs) whenMade(id dirID) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.made[id]
}

// takeMade is for a directory whose own name has become durable, unless another
// one has its number by now.
func (s *dirSyncs) takeMade(id dirID, made uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made[id] == made {
		delete(s.made, id)
	}
}

// unsyncedDirs are the directories in which names were made that no upload
// makes durable: directories, symlinks, renames. The zero value is ready.
type unsyncedDirs struct {
	mu   sync.Mutex
	dirs map[dirID]tree.Path
}

// maxUnsynced bounds what is remembered; what is beyond is left to the system.
const maxUnsynced = 4096

func (u *unsyncedDirs) note(d *dir, p tree.Path) {
	id, err := d.id()
	if err != nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.dirs == nil {
		u.dirs = map[dirID]tree.Path{}
	}
	if len(u.dirs) < maxUnsynced {
		u.dirs[id] = p
	}
}

// syncNames makes durable what unsynced remembers. A directory that has gone
// or moved meanwhile is not ours to care for any more.
func (s *Store) syncNames() error {
	s.unsynced.mu.Lock()
	dirs := s.unsynced.dirs
	s.unsynced.dirs = nil
	s.unsynced.mu.Unlock()
	var errs []error
	for id, p := range dirs {
		d, err := s.dirAt(p.String())
		if err != nil {
			continue
		}
		if now, err := d.id(); err == nil && now == id {
			errs = append(errs, s.fail("sync", p, s.hub.syncDir(d)))
		}
		errs = append(errs, d.Close())
	}
	return errors.Join(errs...)
}
