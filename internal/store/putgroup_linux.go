package store

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// maxTemps bounds the files without a name, each of which is a handle.
	maxTemps = 512

	// wholeFrom is from how many files on one sync of the whole filesystem is
	// used, and not one for each.
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

// finish returns when p is durable under its name, or has failed.
func (g *putGroups) finish(h *hub, p *smallFile) error {
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
	if h.syncWhole(g, batch) {
		for _, p := range batch {
			p.err = h.sys.lostTemp(p.fd)
		}
	} else {
		syncEach(batch)
	}
	named := make([]*smallFile, 0, len(batch))
	for _, p := range batch {
		if p.err == nil {
			p.err = p.publish()
		}
		if p.err == nil {
			named = append(named, p)
		}
	}
	h.syncNames(g, named)
}

// syncNames makes the names of all durable. Each file itself is part of that:
// it says now that it has a name, and what has none is thrown away by recovery.
func (h *hub) syncNames(g *putGroup, batch []*smallFile) {
	whole := h.syncWhole(g, batch)
	if !whole {
		syncEach(batch)
	}
	synced := make(map[*heldDir]error, 1)
	for _, p := range batch {
		if p.err != nil {
			continue
		}
		err, done := synced[p.d]
		if !done {
			if whole { // and so are the directories above, made before
				h.forgetMade(p.d.dir)
			} else {
				err = h.syncDir(p.d.dir)
			}
			synced[p.d] = err
		}
		p.err = err
	}
}

// syncEach syncs each file by itself, and notes whose bytes are not durable.
func syncEach(batch []*smallFile) {
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

// syncWhole makes everything on the filesystem of batch durable, if that is
// worth it. It reports whether it could: after an error each file has to be
// asked, to know whose fault it is.
func (h *hub) syncWhole(g *putGroup, batch []*smallFile) bool {
	if len(batch) < wholeFrom || time.Now().Before(g.paused) {
		return false
	}
	first := batch[0].d // the handle that hears of every error since the first write
	for _, p := range batch {
		if p.d.opened.Before(first.opened) {
			first = p.d
		}
	}
	if h.before(step{op: stepSyncFS, dir: first.dir}) != nil {
		return false
	}
	start := time.Now()
	err := h.sys.syncFS(first.dir)
	if time.Since(start) > slowWhole {
		g.paused = time.Now().Add(pauseWhole)
	}
	return err == nil
}

// forgetMade is for a directory whose own name, and those above it, have become
// durable.
func (h *hub) forgetMade(d *dir) {
	id, err := d.id()
	if err != nil {
		return
	}
	made := h.dirs.whenMade(id)
	if made == 0 {
		return
	}
	h.dirs.takeMade(id, made)
	if up, err := d.parent(); err == nil {
		h.forgetMade(up)
		_ = up.Close()
	}
}
