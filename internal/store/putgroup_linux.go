package store

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// maxTemps bounds the files without a name, each of which is a handle.
	maxTemps = 512

	// wholeFrom is from how many files, or directories, on one sync of the
	// whole filesystem is used, and not one for each.
	wholeFrom = 4

	// slowWhole: a filesystem of which a whole sync takes this long has much to
	// write for others. For pauseWhole each file is then synced by itself.
	slowWhole  = 2 * time.Second
	pauseWhole = 30 * time.Second

	// maxSyncs is how many files are synced at once where each is by itself.
	maxSyncs = 16
)

// putGroups makes small files durable and publishes them, those of a filesystem
// that come at the same time together: while one group is synced, the next
// gathers.
type putGroups struct {
	temps chan struct{}
	temp  atomic.Uint64 // numbers files for tests

	mu     sync.Mutex
	groups map[uint64]*putGroup // by device
}

type putGroup struct {
	led     bool
	waiting []*smallFile
	spare   []*smallFile // to be waiting next: an array to use again

	paused time.Time // of the leader: no whole sync before
}

func newPutGroups() putGroups {
	return putGroups{temps: make(chan struct{}, maxTemps), groups: map[uint64]*putGroup{}}
}

// publish returns when p is durable under its name, or has failed.
func (g *putGroups) publish(h *hub, p *smallFile) error {
	dev := p.d.self.dev
	g.mu.Lock()
	group := g.groups[dev]
	if group == nil {
		group = &putGroup{}
		g.groups[dev] = group
	}
	group.waiting = append(group.waiting, p)
	if group.led {
		p.turn = make(chan bool, 1)
		g.mu.Unlock()
		if lead := <-p.turn; !lead {
			return p.err
		}
		g.mu.Lock()
	}
	group.led = true
	batch := group.waiting
	group.waiting, group.spare = group.spare[:0], nil
	g.mu.Unlock()

	h.publishGroup(group, batch)

	g.mu.Lock()
	if len(group.waiting) > 0 {
		group.waiting[0].turn <- true
	} else {
		group.led = false
	}
	g.mu.Unlock()
	err := p.err
	for _, q := range batch {
		if q != p {
			q.turn <- false
		}
	}
	clear(batch)
	g.mu.Lock()
	group.spare = batch
	g.mu.Unlock()
	return err
}

// publishGroup makes the bytes of all durable, gives them their names, and
// makes these durable.
func (h *hub) publishGroup(g *putGroup, batch []*smallFile) {
	h.syncTemps(g, batch)
	dirs := make([]*heldDir, 0, 8)
	for _, p := range batch {
		if p.err == nil {
			p.err = p.link(p.name)
		}
		if p.err == nil && !slices.Contains(dirs, p.d) {
			dirs = append(dirs, p.d)
		}
	}
	failed := h.syncHeld(g, dirs)
	for _, p := range batch {
		if p.err == nil && failed != nil {
			p.err = failed[p.d]
		}
	}
}

// syncTemps makes the bytes of all durable, and notes whose are not.
func (h *hub) syncTemps(g *putGroup, batch []*smallFile) {
	if len(batch) >= wholeFrom {
		first := batch[0].d
		for _, p := range batch {
			if p.d.opened.Before(first.opened) {
				first = p.d
			}
		}
		if h.syncWhole(g, first) {
			for _, p := range batch {
				p.err = h.sys.lostTemp(p.fd)
			}
			return
		}
	}
	if len(batch) < wholeFrom {
		for _, p := range batch {
			p.err = p.sync()
		}
		return
	}
	var group errgroup.Group
	group.SetLimit(maxSyncs)
	for _, p := range batch {
		group.Go(func() error {
			p.err = p.sync()
			return nil
		})
	}
	_ = group.Wait() // nobody fails but for himself
}

// syncWhole makes everything on d's filesystem durable. It reports whether it
// could: what is lost cannot be told apart then, so each file is asked.
func (h *hub) syncWhole(g *putGroup, d *heldDir) bool {
	if !d.whole || time.Now().Before(g.paused) {
		return false
	}
	if h.before(step{op: stepSyncFS, dir: d.dir}) != nil {
		return false
	}
	start := time.Now()
	err := h.sys.syncFS(d.dir)
	if time.Since(start) > slowWhole {
		g.paused = time.Now().Add(pauseWhole)
	}
	return err == nil
}

// syncHeld makes the names in dirs durable, and those of the directories above
// that this process has made. It returns the errors, nil if there are none.
func (h *hub) syncHeld(g *putGroup, dirs []*heldDir) (failed map[*heldDir]error) {
	if len(dirs) >= wholeFrom {
		// What was made before is durable with the rest of it.
		if h.syncWhole(g, dirs[0]) {
			for _, d := range dirs {
				h.forgetMade(d.dir)
			}
			return nil
		}
	}
	for _, d := range dirs {
		if err := h.syncDir(d.dir); err != nil {
			if failed == nil {
				failed = map[*heldDir]error{}
			}
			failed[d] = err
		}
	}
	return failed
}

// forgetMade is for a directory whose own name, and those above it, have become
// durable.
func (h *hub) forgetMade(d *dir) {
	id, err := d.id()
	if err != nil || !h.dirs.takeMade(id) {
		return
	}
	if up, err := d.parent(); err == nil {
		h.forgetMade(up)
		_ = up.Close()
	}
}
