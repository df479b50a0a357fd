package native

import (
	"fmt"
	"math"
	"time"

	"transferd/internal/tree"
	"transferd/protocol"
)

// nanos returns t as it travels; what is beyond 64 bits is cut to their ends.
func nanos(t time.Time) int64 {
	const most, least = math.MaxInt64 / int64(time.Second), math.MinInt64 / int64(time.Second)
	switch s := t.Unix(); {
	case t.IsZero():
		return 0
	case s >= most:
		return math.MaxInt64
	case s <= least:
		return math.MinInt64
	}
	return t.UnixNano()
}

// entryToWire describes e, and xattrs where they were asked for. What a FOUND
// has no room for is left out; a target that is too long makes it TOO_LARGE when
// it is sent.
func entryToWire(e tree.Entry, xattrs []tree.Xattr) protocol.Entry {
	w := protocol.Entry{
		Kind:   protocol.Kind(e.Kind),
		Size:   max(0, e.Size),
		Perm:   uint32(e.Perm & tree.PermMask),
		Mtime:  nanos(e.Mtime),
		Atime:  nanos(e.Atime),
		Ctime:  nanos(e.Ctime),
		UID:    e.UID,
		GID:    e.GID,
		Owner:  e.Owner,
		Group:  e.Group,
		Nlink:  e.Nlink,
		Device: e.Device,
		Inode:  e.Inode,
		Grain:  uint32(min(max(0, e.Grain), math.MaxUint32)),
		Link:   e.Link,
		Xattrs: xattrsToWire(xattrs),
	}
	if len(w.Owner) > protocol.MaxName {
		w.Owner = ""
	}
	if len(w.Group) > protocol.MaxName {
		w.Group = ""
	}
	return w
}

// entryFromWire is the entry called name that w describes. Its extended
// attributes are apart.
func entryFromWire(name string, w *protocol.Entry) tree.Entry {
	e := tree.Entry{
		Name:   name,
		Kind:   tree.Kind(w.Kind),
		Size:   w.Size,
		Perm:   tree.Perm(w.Perm) & tree.PermMask,
		Mtime:  time.Unix(0, w.Mtime),
		Atime:  time.Unix(0, w.Atime),
		UID:    w.UID,
		GID:    w.GID,
		Owner:  w.Owner,
		Group:  w.Group,
		Nlink:  w.Nlink,
		Device: w.Device,
		Inode:  w.Inode,
		Link:   w.Link,
		Grain:  time.Duration(w.Grain),
	}
	if w.Ctime != 0 {
		e.Ctime = time.Unix(0, w.Ctime)
	}
	if e.Kind > tree.KindBlockDevice {
		e.Kind = tree.KindUnknown
	}
	return e
}

func xattrsToWire(xattrs []tree.Xattr) []protocol.Xattr {
	if len(xattrs) == 0 {
		return nil
	}
	w := make([]protocol.Xattr, len(xattrs))
	for i, x := range xattrs {
		w[i] = protocol.Xattr(x)
	}
	return w
}

// xattrsFromWire is never nil: there are none.
func xattrsFromWire(w []protocol.Xattr) []tree.Xattr {
	xattrs := make([]tree.Xattr, len(w))
	for i, x := range w {
		xattrs[i] = tree.Xattr(x)
		if x.Value == nil { // which is as empty, and not to be told from others
			xattrs[i].Value = []byte{}
		}
	}
	return xattrs
}

// listingToWire tells of p, relative to the directory that was asked for: what
// is there, or the error why that, or what lies below it, cannot be had.
func listingToWire(p tree.Path, e tree.Entry, xattrs []tree.Xattr, err error) protocol.Listing {
	l := protocol.Listing{Path: p.String()}
	switch {
	case err != nil:
		l.Code, _ = codeOf(err)
	case len(e.Link) > protocol.MaxPath:
		l.Code = protocol.CodeTooLarge
	default:
		l.Entry = entryToWire(e, xattrs)
	}
	return l
}

// listingFromWire returns what l tells of a path in directory dir. Without deep
// that is one element, or the server is broken.
func listingFromWire(l *protocol.Listing, dir tree.Path, deep bool) (tree.Path, tree.Entry, error) {
	p := tree.Path(l.Path)
	if !deep {
		if err := tree.CheckName(l.Path); err != nil {
			return p, tree.Entry{}, err
		}
	}
	if p == tree.Root && l.Code == 0 {
		return p, tree.Entry{}, fmt.Errorf("%w: the directory is in itself", tree.ErrBadPath)
	}
	if l.Code != 0 {
		return p, tree.Entry{Name: p.Base()}, errorOf(l.Code, "", "list", dir.Append(p).String())
	}
	return p, entryFromWire(p.Base(), &l.Entry), nil
}

func attrToWire(a tree.Attr) protocol.Attr {
	var w protocol.Attr
	if a.Size != nil {
		w.Set, w.Size = w.Set|protocol.AttrSize, *a.Size
	}
	if a.Perm != nil {
		w.Set, w.Perm = w.Set|protocol.AttrPerm, uint32(*a.Perm&tree.PermMask)
	}
	if a.Mtime != nil {
		w.Set, w.Mtime = w.Set|protocol.AttrMtime, nanos(*a.Mtime)
	}
	if a.Atime != nil {
		w.Set, w.Atime = w.Set|protocol.AttrAtime, nanos(*a.Atime)
	}
	if a.Owner != nil {
		w.Set, w.UID, w.GID = w.Set|protocol.AttrOwner, a.Owner.UID, a.Owner.GID
	}
	if a.Xattrs != nil {
		w.Set, w.Xattrs = w.Set|protocol.AttrXattrs, xattrsToWire(a.Xattrs)
	}
	return w
}

func attrFromWire(w *protocol.Attr) tree.Attr {
	var a tree.Attr
	if w.Set&protocol.AttrSize != 0 {
		a.Size = new(w.Size)
	}
	if w.Set&protocol.AttrPerm != 0 {
		a.Perm = new(tree.Perm(w.Perm) & tree.PermMask)
	}
	if w.Set&protocol.AttrMtime != 0 {
		a.Mtime = new(time.Unix(0, w.Mtime))
	}
	if w.Set&protocol.AttrAtime != 0 {
		a.Atime = new(time.Unix(0, w.Atime))
	}
	if w.Set&protocol.AttrOwner != 0 {
		a.Owner = &tree.Owner{UID: w.UID, GID: w.GID}
	}
	if w.Set&protocol.AttrXattrs != 0 {
		a.Xattrs = xattrsFromWire(w.Xattrs)
	}
	return a
}

func spaceToWire(s tree.Space) *protocol.Measured {
	m := &protocol.Measured{
		BlockSize:      s.BlockSize,
		Total:          s.Total,
		Free:           s.Free,
		Available:      s.Available,
		Files:          s.Files,
		FilesFree:      s.FilesFree,
		FilesAvailable: s.FilesAvail,
		Filesystem:     s.FilesystemID,
		MaxName:        s.MaxName,
	}
	if s.ReadOnly {
		m.Flags |= protocol.SpaceReadOnly
	}
	if s.NoSuid {
		m.Flags |= protocol.SpaceNoSuid
	}
	return m
}

func spaceFromWire(m *protocol.Measured) tree.Space {
	return tree.Space{
		BlockSize:    m.BlockSize,
		Total:        m.Total,
		Free:         m.Free,
		Available:    m.Available,
		Files:        m.Files,
		FilesFree:    m.FilesFree,
		FilesAvail:   m.FilesAvailable,
		FilesystemID: m.Filesystem,
		ReadOnly:     m.Flags&protocol.SpaceReadOnly != 0,
		NoSuid:       m.Flags&protocol.SpaceNoSuid != 0,
		MaxName:      m.MaxName,
	}
}

// extentsToWire tells where data is. The caller cuts it to MaxExtents.
func extentsToWire(extents []tree.Extent) []protocol.Extent {
	w := make([]protocol.Extent, len(extents))
	for i, x := range extents {
		w[i] = protocol.Extent(x)
	}
	return w
}

func extentsFromWire(w []protocol.Extent) []tree.Extent {
	extents := make([]tree.Extent, len(w))
	for i, x := range w {
		extents[i] = tree.Extent(x)
	}
	return extents
}

func valuesToWire(values []tree.Value) []protocol.Value {
	w := make([]protocol.Value, len(values))
	for i, v := range values {
		w[i] = protocol.Value(v)
	}
	return w
}

func valuesFromWire(w []protocol.Value) []tree.Value {
	values := make([]tree.Value, len(w))
	for i, v := range w {
		values[i] = tree.Value(v)
	}
	return values
}

// The flags of OPEN and the enumerations below have the same values on both
// sides, which a test holds.

func openToWire(f tree.OpenFlags) protocol.OpenFlags   { return protocol.OpenFlags(f) }
func openFromWire(f protocol.OpenFlags) tree.OpenFlags { return tree.OpenFlags(f) }

func renameToWire(m tree.RenameMode) protocol.RenameMode   { return protocol.RenameMode(m) }
func renameFromWire(m protocol.RenameMode) tree.RenameMode { return tree.RenameMode(m) }

func verifyToWire(v tree.Verify) protocol.Verify   { return protocol.Verify(v) }
func verifyFromWire(v protocol.Verify) tree.Verify { return tree.Verify(v) }

func fsyncToWire(f tree.Fsync) protocol.Fsync   { return protocol.Fsync(f) }
func fsyncFromWire(f protocol.Fsync) tree.Fsync { return tree.Fsync(f) }

func identityToWire(i tree.Identity) protocol.Identity   { return protocol.Identity(i) }
func identityFromWire(i protocol.Identity) tree.Identity { return tree.Identity(i) }

func receiptToWire(r tree.Receipt) *protocol.Committed {
	m := &protocol.Committed{Volatile: r.Volatile}
	switch r.Verified {
	case tree.VerifiedSampled:
		m.Verified = protocol.VerifiedSampled
	case tree.VerifiedFull:
		m.Verified = protocol.VerifiedFull
	case tree.VerifiedDigest:
	}
	return m
}

func receiptFromWire(m *protocol.Committed) tree.Receipt {
	r := tree.Receipt{Verified: tree.VerifiedDigest, Volatile: m.Volatile}
	switch m.Verified {
	case protocol.VerifiedSampled:
		r.Verified = tree.VerifiedSampled
	case protocol.VerifiedFull:
		r.Verified = tree.VerifiedFull
	case protocol.VerifiedDigest:
	}
	return r
}

// beginToWire is the BEGIN of u below the directory with handle dir.
func beginToWire(u tree.Upload, dir uint32) *protocol.Begin {
	return &protocol.Begin{
		Place:  protocol.Place{Dir: dir, Path: u.Path.String()},
		Flags:  uploadFlags(u.Resume, u.Sparse, u.InPlace, u.NoReplace),
		Verify: verifyToWire(u.Verify),
		Fsync:  fsyncToWire(u.Fsync),
		Size:   u.Size,
		Chunk:  uint32(u.ChunkSize), //nolint:gosec // at most MaxChunk
		Source: identityToWire(u.Source),
		Origin: u.Origin,
	}
}

func beginFromWire(m *protocol.Begin) tree.Upload {
	return tree.Upload{
		Path:      tree.Path(m.Path),
		Size:      m.Size,
		Source:    identityFromWire(m.Source),
		Origin:    m.Origin,
		ChunkSize: int64(m.Chunk),
		Resume:    m.Flags&protocol.UploadResume != 0,
		Sparse:    m.Flags&protocol.UploadSparse != 0,
		InPlace:   m.Flags&protocol.UploadInPlace != 0,
		NoReplace: m.Flags&protocol.UploadNoReplace != 0,
		Verify:    verifyFromWire(m.Verify),
		Fsync:     fsyncFromWire(m.Fsync),
	}
}

func uploadFlags(resume, sparse, inPlace, noReplace bool) (f protocol.UploadFlags) {
	for _, x := range []struct {
		set  bool
		flag protocol.UploadFlags
	}{
		{resume, protocol.UploadResume},
		{sparse, protocol.UploadSparse},
		{inPlace, protocol.UploadInPlace},
		{noReplace, protocol.UploadNoReplace},
	} {
		if x.set {
			f |= x.flag
		}
	}
	return f
}

// putToWire is the PUT of s below the directory with handle dir, raw.
func putToWire(s tree.Small, dir uint32) *protocol.Put {
	return &protocol.Put{
		Place:  protocol.Place{Dir: dir, Path: s.Path.String()},
		Flags:  uploadFlags(false, false, s.InPlace, s.NoReplace),
		Verify: verifyToWire(s.Verify),
		Fsync:  fsyncToWire(s.Fsync),
		Origin: s.Origin,
		Attr:   attrToWire(s.Attr),
		Size:   int64(len(s.Data)),
		Digest: s.Digest,
		Data:   s.Data,
	}
}

// putFromWire is what m puts; data is what m's encoding makes of its bytes.
func putFromWire(m *protocol.Put, data []byte) tree.Small {
	return tree.Small{
		Path:      tree.Path(m.Path),
		Data:      data,
		Digest:    m.Digest,
		Origin:    m.Origin,
		InPlace:   m.Flags&protocol.UploadInPlace != 0,
		NoReplace: m.Flags&protocol.UploadNoReplace != 0,
		Verify:    verifyFromWire(m.Verify),
		Fsync:     fsyncFromWire(m.Fsync),
		Attr:      attrFromWire(&m.Attr),
	}
}
