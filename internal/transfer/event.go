package transfer

import (
	"time"

	"transferd/internal/tree"
)

// An Event tells a listener what happens during a copy.
type Event interface{ event() }

// Found tells how many files, symlinks left out, there are to copy and how large
// they are, as far as is known by now. Those that turn out to be there already
// are among them. Bytes is what comes together of Moved, of the sizes of files
// Finished without being Started, and of what was left of those that Failed.
type Found struct {
	Files    int64
	Bytes    int64
	Complete bool // nothing more will be found
}

// Started tells that a file has begun to move. Exactly one Finished or Failed
// follows, unless the copy is stopped before that.
type Started struct {
	ID   int64 // names the file in later events
	Path string
	Size int64 // bytes; -1: not known
}

// Moved tells that bytes of a file are done since the last Moved. No byte is
// told twice, however often it is sent; Finished tells what really moved.
type Moved struct {
	ID      int64
	Bytes   int64
	Resumed bool // they were there already
	Hole    bool // zeros that neither side stores
}

// Finished tells that a file or symlink has its final name.
type Finished struct {
	ID        int64
	Path      string
	Size      int64
	Sent      int64 // payload moved, holes left out
	Resumed   int64 // payload kept from earlier runs
	Duration  time.Duration
	Digest    tree.Digest
	HasDigest bool
	Transport string // empty for a local copy
	Verified  tree.Verified
	Status    Status
}

// Failed tells that a file could not be copied and that the copy goes on.
type Failed struct {
	ID   int64 // 0 when it had not been Started
	Path string
	Err  error
}

// Retrying tells that the connection was lost and is tried again after a pause.
type Retrying struct {
	Path    string
	Err     error
	After   time.Duration
	Attempt int
}

// Hint tells a person something worth knowing that is no error.
type Hint struct{ Text string }

// Status is the end of a file that did not fail.
type Status string

// The good ends of a file.
const (
	Copied     Status = "copied"
	Skipped    Status = "skipped" // it was there already
	Linked     Status = "symlink"
	HardLinked Status = "hardlink" // it became one more name of a file that was copied
	Planned    Status = "dry-run"
)

func (Found) event()    {}
func (Started) event()  {}
func (Moved) event()    {}
func (Finished) event() {}
func (Failed) event()   {}
func (Retrying) event() {}
func (Hint) event()     {}
