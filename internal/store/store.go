// Package store is a tree on a local disk: a Source and a Sink of copies, and
// the random access that servers give. It is where nothing may be lost: an
// upload has its final name only when it is whole, checked and durable, and
// what a broken upload left is continued. DESIGN.md says how.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"transferd/internal/tree"
)

// Options are the settings of a Store; the zero value works.
type Options struct {
	// StateDir is where the index of partials is kept, which Sweep reads.
	// Empty: no index, and Sweep finds nothing. It must lie outside every tree
	// that others can write.
	StateDir string

	// Now tells the time by which partials expire; nil means time.Now.
	Now func() time.Time

	// Owners allows what only root should do: change owners, and keep setuid
	// and setgid bits.
	Owners bool

	// Log receives what an operator should look at; nil discards it.
	Log *slog.Logger
}

// A Store is a tree on the local disk, made by Open or Host. It is safe for
// concurrent use. Uploads of one Store and of what Sub returned from it know
// each other, so that a new run takes over from a stale one: a process opens
// each root once and shares it.
type Store struct {
	hub   *hub
	where string    // the OS path that Open was given; "" for a Host
	at    tree.Path // of this Sub below the Store that it came from at first

	// mu keeps Close from closing handles that a running operation is about to
	// use: the number of a closed handle may soon mean another directory.
	mu     sync.RWMutex
	base   base
	closed bool

	unsynced unsyncedDirs
	held     heldDirs
}

// Open returns the tree below the directory root. Nothing leaves it: ".." and
// absolute symlinks are never followed out. The caller closes it.
func Open(root string, o Options) (*Store, error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", root, err)
	}
	if abs, err = filepath.EvalSymlinks(abs); err != nil {
		return nil, err // names the path
	}
	r, err := os.OpenRoot(abs)
	if err != nil {
		return nil, err // names the path
	}
	return confined(newHub(o), r, abs, tree.Root)
}

// Host returns the whole file system of this machine, resolved as the system
// does. A Path of it is an absolute path without its leading slash; HostPath
// makes one. Begin follows a last symlink, which a person has typed here, and
// replaces the file that it leads to.
func Host(o Options) *Store {
	return &Store{hub: newHub(o), at: tree.Root}
}

// confined makes the Store below r, and owns r from now on.
func confined(h *hub, r *os.Root, where string, at tree.Path) (*Store, error) {
	b, err := openBase(r)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", at, explain(err)), r.Close())
	}
	return &Store{hub: h, where: where, at: at, base: b}, nil
}

// isHost reports whether paths are resolved as the system does.
func (s *Store) isHost() bool { return s.base.root == nil }

// Sub returns the tree below directory p. No path of it leaves p, also where s
// itself is a Host.
func (s *Store) Sub(ctx context.Context, p tree.Path) (tree.SubTree, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, s.fail("open", p, tree.ErrClosed)
	}
	r, err := s.base.openRoot(p)
	if err != nil {
		return nil, s.fail("open", p, err)
	}
	sub, err := confined(s.hub, r, s.where, s.at.Append(p))
	if err != nil {
		return nil, err
	}
	return sub, nil
}

// Close makes the names durable that were made but not part of an upload, and
// lets go of the root. Running uploads keep what they hold and may go on.
func (s *Store) Close() error {
	err := s.syncNames()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.held.close()
	return errors.Join(err, s.base.Close())
}

// A hub is what a Store and all its Subs share.
type hub struct {
	owners bool
	now    func() time.Time
	log    *slog.Logger

	sys    calls
	tuning tuning
	trace  func(step) error // nil, or a test that wants to see or stop every durable step

	claims  claims
	dirs    dirSyncs
	puts    putGroups
	begun   atomic.Uint64 // partials that were made, or may have been
	moved   atomic.Uint64 // names that were moved or removed
	index   *index        // nil without a StateDir
	names   ownerNames
	umask   func() tree.Perm
	appends [64]sync.Mutex // by inode: appends of several handles to one file
}

// tuning holds the sizes and times that tests make small.
type tuning struct {
	batchBytes int64         // a batch is made durable at this size
	batchEvery time.Duration // or when its first chunk is this old
	maxPending int64         // received and not yet durable: more waits
	lockWait   time.Duration // how long another process's lock is waited for
	lockPoll   time.Duration
}

func newHub(o Options) *hub {
	h := &hub{
		owners: o.Owners,
		now:    o.Now,
		log:    o.Log,
		sys:    systemCalls(),
		tuning: tuning{
			// Half of maxPending, which is also what a peer sends before it wants
			// to hear of something durable: one half is written while the other
			// is synced, and neither side waits for the other.
			batchBytes: 48 << 20,
			batchEvery: time.Second,
			maxPending: 96 << 20,
			lockWait:   15 * time.Second,
			lockPoll:   100 * time.Millisecond,
		},
		umask: sync.OnceValue(processUmask),
		puts:  newPutGroups(),
	}
	if h.now == nil {
		h.now = time.Now
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if o.StateDir != "" {
		h.index = newIndex(o.StateDir, h)
	}
	return h
}

var (
	_ tree.FS      = (*Store)(nil)
	_ tree.SubTree = (*Store)(nil)
	_ tree.Linker  = (*Store)(nil)
	_ tree.Spacer  = (*Store)(nil)
	_ tree.Summer  = (*Store)(nil)
	_ tree.Tidier  = (*Store)(nil)
	_ tree.Putter  = (*Store)(nil)
	_ tree.Getter  = (*Store)(nil)
	_ tree.Xattrer = (*Store)(nil)
)
