package tree

import (
	"io/fs"
	"time"
)

// A Kind says what an entry is.
type Kind uint8

// The kinds of entries.
const (
	KindUnknown Kind = iota
	KindFile
	KindDir
	KindSymlink
	KindFIFO
	KindSocket
	KindCharDevice
	KindBlockDevice
)

// String names the kind as `transfer stat` prints it.
func (k Kind) String() string {
	names := [...]string{"unknown", "file", "dir", "symlink", "fifo", "socket", "char device", "block device"}
	if int(k) < len(names) {
		return names[k]
	}
	return names[KindUnknown]
}

// Perm holds the twelve permission bits of Unix: 07777, setuid, setgid and
// sticky included.
type Perm uint32

// PermMask is every bit a Perm can hold.
const PermMask Perm = 0o7777

// FileMode returns the bits as package fs spells them.
func (p Perm) FileMode() fs.FileMode {
	m := fs.FileMode(p & 0o777)
	if p&0o4000 != 0 {
		m |= fs.ModeSetuid
	}
	if p&0o2000 != 0 {
		m |= fs.ModeSetgid
	}
	if p&0o1000 != 0 {
		m |= fs.ModeSticky
	}
	return m
}

// PermOf returns the permission bits of m.
func PermOf(m fs.FileMode) Perm {
	p := Perm(m.Perm())
	if m&fs.ModeSetuid != 0 {
		p |= 0o4000
	}
	if m&fs.ModeSetgid != 0 {
		p |= 0o2000
	}
	if m&fs.ModeSticky != 0 {
		p |= 0o1000
	}
	return p
}

// KindOf returns the kind that m's type bits say.
func KindOf(m fs.FileMode) Kind {
	switch m.Type() {
	case 0:
		return KindFile
	case fs.ModeDir:
		return KindDir
	case fs.ModeSymlink:
		return KindSymlink
	case fs.ModeNamedPipe:
		return KindFIFO
	case fs.ModeSocket:
		return KindSocket
	case fs.ModeDevice | fs.ModeCharDevice:
		return KindCharDevice
	case fs.ModeDevice:
		return KindBlockDevice
	}
	return KindUnknown
}

// An Entry describes one name of a tree.
type Entry struct {
	Name string // last element of its path; "." for a root
	Kind Kind
	Size int64 // bytes; of a symlink the length of its target
	Perm Perm

	Mtime time.Time
	Atime time.Time
	Ctime time.Time // zero where the tree cannot tell

	UID, GID     uint32
	Owner, Group string // names where the tree knows them
	Nlink        uint64 // 0 where the tree cannot tell
	Device       uint64 // with Inode what makes two names one file; 0 where the tree cannot tell
	Inode        uint64

	Link  string        // target of a symlink, from Lstat and List
	Grain time.Duration // resolution of the tree's times: time.Second over SFTP, 1 ns on a disk
}

// IsDir reports whether e is a directory.
func (e Entry) IsDir() bool { return e.Kind == KindDir }

// Identity returns what tells this version of the file from another.
func (e Entry) Identity() Identity {
	id := Identity{Size: e.Size, Mtime: e.Mtime.UnixNano(), Inode: e.Inode}
	if !e.Ctime.IsZero() {
		id.Ctime = e.Ctime.UnixNano()
	}
	return id
}

// SameTime reports whether a and b are the same moment at the coarser grain.
// The finer one is cut off, as utimensat and SFTP do, never rounded.
func SameTime(a, b time.Time, grain time.Duration) bool {
	if grain <= time.Nanosecond {
		return a.Equal(b)
	}
	if grain == time.Second {
		return a.Unix() == b.Unix()
	}
	return a.Truncate(grain).Equal(b.Truncate(grain))
}

// An Identity is what is remembered of a source file to notice that it is no
// longer the same. Fields a tree cannot tell are 0 on both sides.
type Identity struct {
	Size  int64
	Mtime int64 // ns since 1970
	Ctime int64 // ns since 1970
	Inode uint64
}

// Attr is a set of attributes to change; a nil field stays as it is.
type Attr struct {
	Size  *int64 // truncate or extend; regular files only
	Perm  *Perm
	Mtime *time.Time
	Atime *time.Time // nil with Mtime set: atime stays where the tree can leave it
	Owner *Owner

	// Xattrs, if not nil, become the extended attributes of the namespace
	// "user."; those that are not listed go. ErrUnsupported where there are none.
	Xattrs []Xattr
}

// IsZero reports whether a changes nothing.
func (a Attr) IsZero() bool {
	return a.Size == nil && a.Perm == nil && a.Mtime == nil && a.Atime == nil && a.Owner == nil && a.Xattrs == nil
}

// An Owner is the numeric owner of an entry.
type Owner struct{ UID, GID uint32 }

// Space tells how full a filesystem is. Sizes are in bytes.
type Space struct {
	BlockSize    uint64
	Total        uint64
	Free         uint64 // for root
	Available    uint64 // for everybody else
	Files        uint64 // inodes
	FilesFree    uint64
	FilesAvail   uint64
	FilesystemID uint64
	ReadOnly     bool
	NoSuid       bool
	MaxName      uint64 // bytes
}

// RenameMode says what Rename does when the new name exists.
type RenameMode uint8

// The ways to rename.
const (
	RenameReplace   RenameMode = iota // as rename(2)
	RenameNoReplace                   // fs.ErrExist
)

// OpenFlags say what OpenFile opens a file for.
type OpenFlags uint8

// What a file may be opened for.
const (
	OpenRead      OpenFlags = 1 << iota
	OpenWrite               // at any offset; holes stay holes
	OpenCreate              // make it if missing
	OpenExclusive           // with OpenCreate: fs.ErrExist if it is there, symlinks included
	OpenTruncate            // cut it to nothing first
	OpenAppend              // offsets of writes are ignored, each goes to the end
)
