// Package store is a tree on a local disk: a Source and a Sink of copies, and
// the random access that servers give. It is where nothing may be lost: an
// upload has its final name only when it is whole, checked and durable, and
// what a broken upload left is continued. DESIGN.md says how.
package store

import (
	"context"
	"log/slog"
	"time"

	"transferd/internal/tree"
)

// Options are the settings of a Store; the zero value works.
type Options struct {
	// StateDir is where the index of partials is kept, which Sweep reads.
	// Empty: no index, and Sweep finds nothing.
	StateDir string

	// Now tells the time; nil means time.Now.
	Now func() time.Time

	// Owners allows what only root should do: change owners, and keep setuid
	// and setgid bits.
	Owners bool

	// Log receives what an operator should look at; nil discards it.
	Log *slog.Logger
}

// A Store is a tree on the local disk, made by Open or Host. It is safe for
// concurrent use. Uploads of one Store and of what Sub returned know each
// other: one process should open each root once and share it.
type Store struct {
	everything
}

type everything interface {
	tree.FS
	tree.Sink
	tree.Suber
	tree.Summer
	Close() error
}

// Open returns the tree below the directory root. Nothing leaves it: ".." and
// absolute symlinks are never followed out. The caller closes it.
func Open(root string, o Options) (*Store, error) { return &Store{}, nil }

// Host returns the whole file system of this machine, resolved as the system
// does. A Path of it is an absolute path without its leading slash; HostPath
// makes one.
func Host(o Options) *Store { return &Store{} }

// HostPath returns the Path in a Host store of what a person wrote for this
// system: absolute, or relative to the working directory. ".." is resolved as
// the system does, behind symlinks.
func HostPath(osPath string) (tree.Path, error) { return tree.ParsePath(osPath) }

// Sweep removes partials that nobody has touched for maxAge and no live writer
// holds, and returns how many. It looks only where the index says.
func (s *Store) Sweep(ctx context.Context, maxAge time.Duration) (int, error) { return 0, nil }

// OpenJournals returns the journals kept in directory dir, which is made when
// the first is opened: what is durable of uploads whose other end keeps none.
func OpenJournals(dir string) tree.Journals { return nil }
