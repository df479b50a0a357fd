package store

import (
	"os"

	"transferd/internal/tree"
)

// calls are the system calls that some filesystem or kernel lacks, and those
// that tests let fail. Each has a named fallback where it is used.
type calls struct {
	// openBeneath opens directory path below the directory root without ever
	// leaving it; nil or errors.ErrUnsupported: os.Root walks instead.
	openBeneath func(root int, path string) (int, error)

	// renameNoReplace renames unless the new name exists.
	renameNoReplace func(from *dir, name string, to *dir, newName string) error

	// link makes a hard link.
	link func(from *dir, name string, to *dir, newName string) error

	// lock takes the lock of f without waiting: errBusy if it is taken.
	lock func(f *os.File, shared bool) error

	// preallocate gives f blocks for size bytes without changing its length.
	preallocate func(f *os.File, size int64) error

	// punch makes a hole of x, without changing the length of f.
	punch func(f *os.File, x tree.Extent) error

	// extents tells what of the size bytes of f holds data.
	extents func(f *os.File, size int64) ([]tree.Extent, error)

	write    func(f *os.File, data []byte, off int64) (int, error)
	datasync func(f *os.File) error
	sync     func(f *os.File) error
	syncDir  func(d *dir) error
	syncFS   func(d *dir) error // everything on the filesystem of d

	// Files without a name, by their handle. makeTemp is nil where the system
	// has none, and errors.ErrUnsupported where the filesystem has none: Put
	// goes through Begin there.
	makeTemp  func(d *dir, perm tree.Perm) (fd int, err error)
	writeTemp func(fd int, data []byte) error
	syncTemp  func(fd int) error
	lostTemp  func(fd int) error // after syncFS: whether a write of this file was lost
	linkTemp  func(fd int, to *dir, name string) error
}

// A step is one change of the disk that recovery depends on, told to hub.trace
// before it is done. Names are those in the directory dir.
type step struct {
	op   stepOp
	dir  *dir
	name string
	to   string // the new name
	off  int64  // of data, or the new length
	size int64  // of a zeroed range
	data []byte
}

type stepOp string

const (
	stepCreate   stepOp = "create"
	stepWrite    stepOp = "write"
	stepZero     stepOp = "zero"
	stepTruncate stepOp = "truncate"
	stepSync     stepOp = "sync"
	stepSyncDir  stepOp = "syncdir"
	stepRename   stepOp = "rename"
	stepRemove   stepOp = "remove"
	stepLink     stepOp = "link" // of a file that has no name yet
	stepSyncFS   stepOp = "syncfs"
)

// before tells a test that a step comes. An error stops the step: the test
// plays a machine that has lost its power.
func (h *hub) before(s step) error {
	if h.trace == nil {
		return nil
	}
	return h.trace(s)
}
