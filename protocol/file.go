package protocol

// OpenDir opens a directory, to name what lies below it by Handle.
type OpenDir struct {
	Place
	Handle uint32 // chosen by the client, not 0, not open
}

func (*OpenDir) kind() Type { return TypeOpenDir }

func (m *OpenDir) fields(c *codec) {
	m.Place.fields(c)
	handle(c, &m.Handle)
}

func handle(c *codec, v *uint32) {
	c.u32("handle", v)
	if c.mode != describing && c.err == nil && *v == 0 {
		c.fail(CodeBadMessage, "handle")
	}
}

// OpenFlags say what a file is opened for.
type OpenFlags uint8

// What a file may be opened for.
const (
	OpenRead OpenFlags = 1 << iota
	OpenWrite
	OpenCreate
	OpenExclusive
	OpenTruncate
	OpenAppend

	openKnown = OpenRead | OpenWrite | OpenCreate | OpenExclusive | OpenTruncate | OpenAppend
)

// Open opens a regular file.
type Open struct {
	Place
	Handle uint32
	Flags  OpenFlags
	Perm   uint32 // of a file that is made
}

func (*Open) kind() Type { return TypeOpen }

func (m *Open) fields(c *codec) {
	m.Place.fields(c)
	handle(c, &m.Handle)
	flags(c, "flags", &m.Flags, openKnown)
	perm(c, &m.Perm)
}

// Close closes a handle.
type Close struct{ Handle uint32 }

func (*Close) kind() Type { return TypeClose }

func (m *Close) fields(c *codec) { handle(c, &m.Handle) }

// StatFile asks what an open file is.
type StatFile struct{ Handle uint32 }

func (*StatFile) kind() Type { return TypeStatFile }

func (m *StatFile) fields(c *codec) { handle(c, &m.Handle) }

// SetAttrFile changes attributes of an open file.
type SetAttrFile struct {
	Handle uint32
	Attr   Attr
}

func (*SetAttrFile) kind() Type { return TypeSetAttrFile }

func (m *SetAttrFile) fields(c *codec) {
	handle(c, &m.Handle)
	group(c, "attr", "attr", &m.Attr, (*Attr).fields)
}

// Sync asks for what was written to be on stable storage.
type Sync struct{ Handle uint32 }

func (*Sync) kind() Type { return TypeSync }

func (m *Sync) fields(c *codec) { handle(c, &m.Handle) }

// ReadFlags are the flags of a Read and a Get.
type ReadFlags uint8

// How the answer to a Read may look.
const (
	ReadZstd  ReadFlags = 1 << iota // payloads may be compressed
	ReadHoles                       // holes may be told; else they are zeros
	ReadValue                       // the value of the chunk is wanted

	readKnown = ReadZstd | ReadHoles | ReadValue
)

// Read asks for bytes of an open file.
type Read struct {
	Handle uint32
	Offset int64
	Length uint32
	Flags  ReadFlags
	Chunk  uint32 // with ReadValue: the size of the file's chunks
}

func (*Read) kind() Type { return TypeRead }

func (m *Read) fields(c *codec) {
	handle(c, &m.Handle)
	c.offset("offset", &m.Offset)
	c.u32("length", &m.Length)
	flags(c, "flags", &m.Flags, readKnown)
	c.u32("chunk", &m.Chunk)
	if m.Length > MaxRead {
		c.fail(CodeTooLarge, "length")
	}
	if m.Offset+int64(m.Length) < m.Offset {
		c.fail(CodeBadMessage, "offset")
	}
	if m.Flags&ReadValue != 0 {
		chunk(c, "chunk", m.Chunk)
	}
}

// chunk refuses what is no size of a chunk.
func chunk(c *codec, name string, v uint32) {
	if c.mode != describing && c.err == nil && (v < MinChunk || v > MaxChunk || v&(v-1) != 0) {
		c.fail(CodeBadMessage, name)
	}
}

// Write writes to an open file.
type Write struct {
	Handle uint32
	Offset int64
	Data   []byte
}

func (*Write) kind() Type { return TypeWrite }

func (m *Write) fields(c *codec) {
	handle(c, &m.Handle)
	c.offset("offset", &m.Offset)
	c.rest("data", &m.Data, MaxData)
	if m.Offset+int64(len(m.Data)) < m.Offset {
		c.fail(CodeBadMessage, "offset")
	}
}

// Map asks where an open file has data.
type Map struct {
	Handle uint32
	Offset int64 // from where on
}

func (*Map) kind() Type { return TypeMap }

func (m *Map) fields(c *codec) {
	handle(c, &m.Handle)
	c.offset("offset", &m.Offset)
}

// Mapped answers Map.
type Mapped struct {
	Last    bool     // nothing but a hole lies behind the extents
	Extents []Extent // ascending, apart from each other, none empty
}

func (*Mapped) kind() Type { return TypeMapped }

func (m *Mapped) fields(c *codec) {
	boolean(c, "last", &m.Last)
	list(c, "extents", "extent", &m.Extents, MaxExtents, 16, (*Extent).fields)
	end := int64(0)
	for _, x := range m.Extents {
		if x.Offset < end || x.Length == 0 {
			c.fail(CodeBadMessage, "extents")
		}
		end = x.Offset + x.Length
	}
}

// Hash asks for the values of chunks of an open file.
type Hash struct {
	Handle uint32
	Chunk  uint32 // size of a chunk
	First  uint64 // index of a chunk
	Count  uint32
}

func (*Hash) kind() Type { return TypeHash }

func (m *Hash) fields(c *codec) {
	handle(c, &m.Handle)
	c.u32("chunk", &m.Chunk)
	chunk(c, "chunk", m.Chunk)
	c.index("first", &m.First)
	c.u32("count", &m.Count)
	switch {
	case c.mode == describing || c.err != nil:
	case m.Count > MaxValues:
		c.fail(CodeTooLarge, "count")
	case m.First+uint64(m.Count) > 1<<63/uint64(m.Chunk):
		c.fail(CodeBadMessage, "first")
	}
}

// Hashed answers Hash. It has fewer values than asked where the file ends.
type Hashed struct{ Values []Value }

func (*Hashed) kind() Type { return TypeHashed }

func (m *Hashed) fields(c *codec) {
	list(c, "values", "bytes32", &m.Values, MaxValues, 32, (*Value).fields)
}
