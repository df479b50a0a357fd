package protocol

// A Kind says what an entry is.
type Kind uint8

// The kinds. A receiver treats others as KindUnknown.
const (
	KindUnknown     Kind = 0
	KindFile        Kind = 1
	KindDir         Kind = 2
	KindSymlink     Kind = 3
	KindFIFO        Kind = 4
	KindSocket      Kind = 5
	KindCharDevice  Kind = 6
	KindBlockDevice Kind = 7
)

// An Entry describes one name of a tree.
type Entry struct {
	Kind   Kind
	Size   int64  // bytes
	Perm   uint32 // twelve bits
	Mtime  int64  // ns since 1970
	Atime  int64
	Ctime  int64 // 0: not known
	UID    uint32
	GID    uint32
	Owner  string // "": not known
	Group  string
	Nlink  uint64 // 0: not known
	Device uint64 // 0: not known
	Inode  uint64
	Grain  uint32 // resolution of the times in ns
	Link   string // a symlink's target, where it was not followed
	Xattrs []Xattr
}

// An Xattr is one extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

const (
	permMask   = 0o7777
	entryLeast = 83 // bytes of an Entry whose texts and lists are empty
)

func (e *Entry) fields(c *codec) {
	octet(c, "kind", &e.Kind, 0xff)
	c.offset("size", &e.Size)
	perm(c, &e.Perm)
	c.i64("mtime", &e.Mtime)
	c.i64("atime", &e.Atime)
	c.i64("ctime", &e.Ctime)
	c.u32("uid", &e.UID)
	c.u32("gid", &e.GID)
	c.text("owner", &e.Owner, MaxName)
	c.text("group", &e.Group, MaxName)
	c.u64("nlink", &e.Nlink)
	c.u64("device", &e.Device)
	c.u64("inode", &e.Inode)
	c.u32("grain", &e.Grain)
	c.text("link", &e.Link, MaxPath)
	list(c, "xattrs", "xattr", &e.Xattrs, MaxXattrs, 6, (*Xattr).fields)
}

func (x *Xattr) fields(c *codec) {
	c.text("name", &x.Name, MaxName)
	c.blob("value", &x.Value, MaxXattr)
}

func perm(c *codec, v *uint32) {
	c.u32("perm", v)
	if *v&^permMask != 0 {
		c.fail(CodeBadMessage, "perm")
	}
}

// AttrSet says which fields of an Attr count.
type AttrSet uint8

// The fields of an Attr.
const (
	AttrSize AttrSet = 1 << iota
	AttrPerm
	AttrMtime
	AttrAtime
	AttrOwner
	AttrXattrs

	attrKnown = AttrSize | AttrPerm | AttrMtime | AttrAtime | AttrOwner | AttrXattrs
)

// An Attr is attributes to change. Fields that Set does not name do not travel.
type Attr struct {
	Set    AttrSet
	Size   int64
	Perm   uint32
	Mtime  int64 // ns since 1970
	Atime  int64
	UID    uint32
	GID    uint32
	Xattrs []Xattr
}

func (a *Attr) fields(c *codec) {
	flags(c, "set", &a.Set, attrKnown)
	has := func(bit AttrSet) bool { return c.mode == describing || a.Set&bit != 0 }
	if has(AttrSize) {
		c.offset("size", &a.Size)
	}
	if has(AttrPerm) {
		perm(c, &a.Perm)
	}
	if has(AttrMtime) {
		c.i64("mtime", &a.Mtime)
	}
	if has(AttrAtime) {
		c.i64("atime", &a.Atime)
	}
	if has(AttrOwner) {
		c.u32("uid", &a.UID)
		c.u32("gid", &a.GID)
	}
	if has(AttrXattrs) {
		list(c, "xattrs", "xattr", &a.Xattrs, MaxXattrs, 6, (*Xattr).fields)
	}
}

// An Identity is what is remembered of a source to notice that it changed.
// Fields that are not known are 0.
type Identity struct {
	Size  int64
	Mtime int64 // ns since 1970
	Ctime int64
	Inode uint64
}

func (i *Identity) fields(c *codec) {
	c.i64("size", &i.Size)
	c.i64("mtime", &i.Mtime)
	c.i64("ctime", &i.Ctime)
	c.u64("inode", &i.Inode)
}

// An Extent is a range of bytes of a file.
type Extent struct{ Offset, Length int64 }

func (x *Extent) fields(c *codec) {
	c.offset("offset", &x.Offset)
	c.offset("length", &x.Length)
	if x.Offset+x.Length < x.Offset {
		c.fail(CodeBadMessage, "length")
	}
}

// A Value is the BLAKE3 chaining value of one chunk at its place; zero for a
// chunk that is a hole.
type Value [32]byte

func (v *Value) fields(c *codec) { c.array("value", "bytes32", v[:]) }
