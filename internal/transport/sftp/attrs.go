package sftp

import (
	"errors"
	"fmt"
	"math"
	"time"

	"transferd/internal/tree"
)

// Flags of attributes: draft-02, section 5.
const (
	attrSize     = 0x00000001
	attrOwner    = 0x00000002
	attrPerm     = 0x00000004
	attrTimes    = 0x00000008
	attrExtended = 0x80000000
)

// Bits of an attribute's permissions that say what the file is, as in stat(2).
const (
	modeType   = 0o170000
	modeFIFO   = 0o010000
	modeChar   = 0o020000
	modeDir    = 0o040000
	modeBlock  = 0o060000
	modeFile   = 0o100000
	modeLink   = 0o120000
	modeSocket = 0o140000
)

// attrs is the ATTRS structure. Fields whose flag is not set mean nothing.
type attrs struct {
	flags        uint32
	size         uint64
	uid, gid     uint32
	mode         uint32 // type and permissions
	atime, mtime uint32 // seconds since 1970
}

// attrs decodes an ATTRS structure; extended attributes are skipped.
func (c *cursor) attrs() attrs { return c.attrFields(c.uint32()) }

// attrFields decodes the fields that flags announce.
func (c *cursor) attrFields(flags uint32) attrs {
	a := attrs{flags: flags}
	if a.flags&attrSize != 0 {
		a.size = c.uint64()
	}
	if a.flags&attrOwner != 0 {
		a.uid, a.gid = c.uint32(), c.uint32()
	}
	if a.flags&attrPerm != 0 {
		a.mode = c.uint32()
	}
	if a.flags&attrTimes != 0 {
		a.atime, a.mtime = c.uint32(), c.uint32()
	}
	if a.flags&attrExtended != 0 {
		for n := c.uint32(); n > 0 && c.err == nil; n-- {
			c.bytes()
			c.bytes()
		}
	}
	return a
}

func (w *builder) attrs(a attrs) {
	w.uint32(a.flags &^ attrExtended)
	if a.flags&attrSize != 0 {
		w.uint64(a.size)
	}
	if a.flags&attrOwner != 0 {
		w.uint32(a.uid)
		w.uint32(a.gid)
	}
	if a.flags&attrPerm != 0 {
		w.uint32(a.mode)
	}
	if a.flags&attrTimes != 0 {
		w.uint32(a.atime)
		w.uint32(a.mtime)
	}
}

// attrsOf describes e as version 3 can: whole seconds from 1970 to 2106.
func attrsOf(e tree.Entry) attrs {
	return attrs{
		flags: attrSize | attrOwner | attrPerm | attrTimes,
		size:  uint64(max(0, e.Size)),
		uid:   e.UID,
		gid:   e.GID,
		mode:  modeOf(e.Kind) | uint32(e.Perm),
		atime: secondsOf(e.Atime),
		mtime: secondsOf(e.Mtime),
	}
}

// secondsOf cuts t to what 32 bits hold: a time that they cannot is shown as
// the nearest one that they can.
func secondsOf(t time.Time) uint32 {
	if t.IsZero() {
		return 0
	}
	return uint32(min(max(t.Unix(), 0), math.MaxUint32))
}

func timeOf(seconds uint32) time.Time { return time.Unix(int64(seconds), 0) }

// errBadSize: a size or offset that no file can have.
var errBadSize = errors.New("size out of range")

// change returns what a asks to be changed.
func (a attrs) change() (tree.Attr, error) {
	var change tree.Attr
	if a.flags&attrSize != 0 {
		if a.size > math.MaxInt64 {
			return change, fmt.Errorf("%w: %d", errBadSize, a.size)
		}
		size := int64(a.size)
		change.Size = &size
	}
	if a.flags&attrOwner != 0 {
		change.Owner = &tree.Owner{UID: a.uid, GID: a.gid}
	}
	if a.flags&attrPerm != 0 {
		perm := tree.Perm(a.mode) & tree.PermMask
		change.Perm = &perm
	}
	if a.flags&attrTimes != 0 {
		atime, mtime := timeOf(a.atime), timeOf(a.mtime)
		change.Atime, change.Mtime = &atime, &mtime
	}
	return change, nil
}

// attrsFor asks for change. Version 3 has no way to set one time alone: a nil
// Atime beside an Mtime becomes the Mtime.
func attrsFor(change tree.Attr) attrs {
	var a attrs
	if change.Size != nil {
		a.flags |= attrSize
		a.size = uint64(max(0, *change.Size))
	}
	if change.Owner != nil {
		a.flags |= attrOwner
		a.uid, a.gid = change.Owner.UID, change.Owner.GID
	}
	if change.Perm != nil {
		a.flags |= attrPerm
		a.mode = uint32(*change.Perm)
	}
	if change.Mtime != nil {
		a.flags |= attrTimes
		a.mtime = secondsOf(*change.Mtime)
		a.atime = a.mtime
		if change.Atime != nil {
			a.atime = secondsOf(*change.Atime)
		}
	}
	return a
}

// entry returns what a tells of the file that is called name.
func (a attrs) entry(name string) tree.Entry {
	e := tree.Entry{Name: name, Grain: time.Second}
	if a.flags&attrSize != 0 {
		e.Size = int64(min(a.size, math.MaxInt64))
	}
	if a.flags&attrOwner != 0 {
		e.UID, e.GID = a.uid, a.gid
	}
	if a.flags&attrPerm != 0 {
		e.Kind = kindOf(a.mode)
		e.Perm = tree.Perm(a.mode) & tree.PermMask
	}
	if a.flags&attrTimes != 0 {
		e.Atime, e.Mtime = timeOf(a.atime), timeOf(a.mtime)
	}
	return e
}

func modeOf(k tree.Kind) uint32 {
	switch k {
	case tree.KindFile:
		return modeFile
	case tree.KindDir:
		return modeDir
	case tree.KindSymlink:
		return modeLink
	case tree.KindFIFO:
		return modeFIFO
	case tree.KindSocket:
		return modeSocket
	case tree.KindCharDevice:
		return modeChar
	case tree.KindBlockDevice:
		return modeBlock
	case tree.KindUnknown:
	}
	return 0
}

func kindOf(mode uint32) tree.Kind {
	switch mode & modeType {
	case modeFile:
		return tree.KindFile
	case modeDir:
		return tree.KindDir
	case modeLink:
		return tree.KindSymlink
	case modeFIFO:
		return tree.KindFIFO
	case modeSocket:
		return tree.KindSocket
	case modeChar:
		return tree.KindCharDevice
	case modeBlock:
		return tree.KindBlockDevice
	}
	return tree.KindUnknown
}
