// Package transfer is the engine: it copies files and directories from a
// Source to a Sink, whatever lies behind them, and resumes, checks, retries and
// reports while doing so. It knows no transport, no disk and no terminal.
package transfer

import (
	"fmt"
	"time"

	"transferd/internal/tree"
)

// Options say how to copy. The zero value copies single files, resumes, follows
// nothing and preserves nothing.
type Options struct {
	// What is copied.
	Recursive bool
	Follow    bool // symlinks found in a directory are copied as what they lead to
	Include   []string
	Exclude   []string

	// Where it lands.
	NoTargetDir bool // the destination is exactly the copy, never its parent

	// Which files are copied again.
	Overwrite Overwrite
	Checksum  bool // files of equal size and time are compared by digest
	DryRun    bool // only tell what would be copied

	// How a file is written.
	Preserve Preserve
	Umask    tree.Perm // bits that files and directories do not get without Preserve.Mode
	NoResume bool      // throw away what earlier runs left
	NoSparse bool      // write zeros instead of holes
	InPlace  bool
	Verify   tree.Verify
	Fsync    tree.Fsync

	// How fast, how often, how many at once.
	Bandwidth int64 // bytes a second over all files, where no network is between; 0: no limit
	Retries   int   // attempts after a lost connection without progress in between
	Files     int   // files in flight; 0: a default that fits the trees

	// Machine names this machine for ever; with a source's path it makes the
	// key of a partial.
	Machine string

	// Events is told what happens, from several goroutines at once. It must
	// return soon. Nil: nobody listens.
	Events func(Event)
}

// Preserve says which attributes of the source the copy gets.
type Preserve struct {
	Mode   bool
	Times  bool
	Owner  bool
	Links  bool // names of one file become names of one copy, where the destination can
	Xattrs bool // the extended attributes of the namespace "user."
}

// Overwrite says what happens to a file that is already there.
type Overwrite uint8

// The ways to treat existing files.
const (
	OverwriteAlways Overwrite = iota // replaced unless size and time are equal
	OverwriteNever
	OverwriteNewer // replaced only by a newer source
)

// A Place is one side of a copy: a path in a tree.
type Place struct {
	Tree  tree.Source // of a destination a tree.Sink
	Path  tree.Path
	Label string // how messages name it, as the person wrote it
	Slash bool   // the name was written with a "/" at its end

	// Contents says that the name was written as "." or "..", or with that as
	// its last element: a directory's contents are meant, not its name.
	Contents bool

	// Host is user@host:port of a remote tree, empty for this machine.
	Host string
}

// origin names path p of the place's tree for tree.Upload.Origin.
func (pl Place) origin(machine string, p tree.Path) string {
	if pl.Host != "" {
		return pl.Host + "/" + p.String()
	}
	return machine + "/" + p.String()
}

// Summary is what a copy did. Sizes are payload bytes, holes left out.
type Summary struct {
	Files    int64 // copied
	Skipped  int64
	Failed   int64
	Left     int64 // found and not come to, or not to its end, because the copy was stopped; there may be more
	Sent     int64 // moved in either direction
	Resumed  int64 // kept from earlier runs
	Duration time.Duration
}

// A PartialError says that a copy went through but some of its files failed.
type PartialError struct {
	Failed int64
	Done   int64   // copied or skipped
	Errs   []error // the first maxErrs of them
}

const maxErrs = 100

func (e *PartialError) Error() string {
	if e.Failed == 1 && e.Done == 0 && len(e.Errs) == 1 {
		return e.Errs[0].Error()
	}
	return fmt.Sprintf("%d of %d files failed", e.Failed, e.Failed+e.Done)
}

// Unwrap returns the failures, so that errors.Is finds their causes.
func (e *PartialError) Unwrap() []error { return e.Errs }

// A UsageError says that the operands of a copy do not fit together.
type UsageError struct {
	What string
	Hint string // the next step, may be empty
}

func (e *UsageError) Error() string { return e.What }
