package protocol

// A Place is a path below a directory: the handle of an open one, or 0 for the
// root of the session.
type Place struct {
	Dir  uint32
	Path string // in its shortest form; "." for the directory itself
}

func (p *Place) fields(c *codec) { p.named(c, "dir", "path") }

func (p *Place) named(c *codec, dir, path string) {
	c.u32(dir, &p.Dir)
	c.path(path, &p.Path)
}

// StatFlags are the flags of a Stat, a Get and a List.
type StatFlags uint8

// What of an entry is asked for.
const (
	StatFollow StatFlags = 1 << iota // what the last symlink leads to; not of List
	StatXattrs                       // extended attributes as well
	ListDeep                         // what lies below as well; of List alone

	statKnown = StatFollow | StatXattrs
	listKnown = StatXattrs | ListDeep
)

// Stat asks what a name is.
type Stat struct {
	Place
	Flags StatFlags
}

func (*Stat) kind() Type { return TypeStat }

func (m *Stat) fields(c *codec) {
	m.Place.fields(c)
	flags(c, "flags", &m.Flags, statKnown)
}

// Found answers Stat, StatFile and Open.
type Found struct{ Entry Entry }

func (*Found) kind() Type { return TypeFound }

func (m *Found) fields(c *codec) { group(c, "entry", "entry", &m.Entry, (*Entry).fields) }

// List asks for the entries of a directory.
type List struct {
	Place
	Flags  StatFlags
	Frames uint32 // how many Listed may come before a More
}

func (*List) kind() Type { return TypeList }

func (m *List) fields(c *codec) {
	m.Place.fields(c)
	flags(c, "flags", &m.Flags, listKnown)
	c.u32("frames", &m.Frames)
}

// Listed is a part of the answer to List.
type Listed struct {
	Last  bool
	Names []Listing
}

// A Listing is one entry of a directory, or the reason why it cannot be had.
type Listing struct {
	Path  string // relative to the directory that was asked for
	Code  Code   // 0, or why Entry is empty or the directory was not listed
	Entry Entry
}

func (*Listed) kind() Type { return TypeListed }

func (m *Listed) fields(c *codec) {
	boolean(c, "last", &m.Last)
	list(c, "names", "listing", &m.Names, MaxEntries, 5+entryLeast, (*Listing).fields)
}

func (l *Listing) fields(c *codec) {
	c.path("path", &l.Path)
	v := uint16(l.Code)
	c.u16("code", &v)
	l.Code = Code(v)
	group(c, "entry", "entry", &l.Entry, (*Entry).fields)
}

func boolean(c *codec, name string, v *bool) {
	var b uint8
	if *v {
		b = 1
	}
	octet(c, name, &b, 1)
	*v = b == 1
}

// Resolve asks where a text leads that a person typed.
type Resolve struct{ Text string }

func (*Resolve) kind() Type { return TypeResolve }

func (m *Resolve) fields(c *codec) { c.text("text", &m.Text, MaxPath) }

// Resolved answers Resolve.
type Resolved struct{ Path string }

func (*Resolved) kind() Type { return TypeResolved }

func (m *Resolved) fields(c *codec) { c.path("path", &m.Path) }

// Measure asks for the space of the filesystem that holds a name.
type Measure struct{ Place }

func (*Measure) kind() Type { return TypeMeasure }

func (m *Measure) fields(c *codec) { m.Place.fields(c) }

// SpaceFlags are the flags of a Measured.
type SpaceFlags uint8

// What a filesystem may be.
const (
	SpaceReadOnly SpaceFlags = 1 << iota
	SpaceNoSuid

	spaceKnown = SpaceReadOnly | SpaceNoSuid
)

// Measured answers Measure. Sizes are in bytes.
type Measured struct {
	BlockSize      uint64
	Total          uint64
	Free           uint64 // for root
	Available      uint64 // for everybody else
	Files          uint64
	FilesFree      uint64
	FilesAvailable uint64
	Filesystem     uint64
	MaxName        uint64
	Flags          SpaceFlags
}

func (*Measured) kind() Type { return TypeMeasured }

func (m *Measured) fields(c *codec) {
	c.u64("block_size", &m.BlockSize)
	c.u64("total", &m.Total)
	c.u64("free", &m.Free)
	c.u64("available", &m.Available)
	c.u64("files", &m.Files)
	c.u64("files_free", &m.FilesFree)
	c.u64("files_available", &m.FilesAvailable)
	c.u64("filesystem", &m.Filesystem)
	c.u64("max_name", &m.MaxName)
	flags(c, "flags", &m.Flags, spaceKnown)
}

// Sum asks for the digest of a file.
type Sum struct{ Place }

func (*Sum) kind() Type { return TypeSum }

func (m *Sum) fields(c *codec) { m.Place.fields(c) }

// Summed answers Sum.
type Summed struct{ Digest [32]byte }

func (*Summed) kind() Type { return TypeSummed }

func (m *Summed) fields(c *codec) { c.bytes32("digest", &m.Digest) }
