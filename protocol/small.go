package protocol

// Get asks for a small file, whole.
type Get struct {
	Place
	Flags ReadFlags
	Limit uint32 // bytes; a larger file is TOO_LARGE
}

func (*Get) kind() Type { return TypeGet }

func (m *Get) fields(c *codec) {
	m.Place.fields(c)
	flags(c, "flags", &m.Flags, ReadZstd)
	c.u32("limit", &m.Limit)
	if m.Limit > MaxInline {
		c.fail(CodeTooLarge, "limit")
	}
}

// Got answers Get.
type Got struct {
	Entry    Entry
	Digest   [32]byte
	Encoding Encoding
	Data     []byte
}

func (*Got) kind() Type { return TypeGot }

func (m *Got) fields(c *codec) {
	group(c, "entry", "entry", &m.Entry, (*Entry).fields)
	c.bytes32("digest", &m.Digest)
	octet(c, "encoding", &m.Encoding, EncodingZstd)
	c.rest("data", &m.Data, MaxInline)
	inline(c, m.Entry.Size, m.Encoding, len(m.Data))
}

// inline compares a small file's size with what travels of it.
func inline(c *codec, size int64, e Encoding, data int) {
	switch {
	case c.mode == describing || c.err != nil:
	case size > MaxInline:
		c.fail(CodeTooLarge, "size")
	case e == EncodingRaw && int64(data) != size, e == EncodingZstd && data == 0:
		c.fail(CodeBadMessage, "data")
	}
}

// Put uploads a small file, whole.
type Put struct {
	Place
	Flags    UploadFlags
	Verify   Verify
	Fsync    Fsync
	Origin   string
	Attr     Attr
	Size     int64
	Digest   [32]byte
	Encoding Encoding
	Data     []byte
}

func (*Put) kind() Type { return TypePut }

func (m *Put) fields(c *codec) {
	m.Place.fields(c)
	flags(c, "flags", &m.Flags, UploadInPlace|UploadNoReplace)
	octet(c, "verify", &m.Verify, VerifyFull)
	octet(c, "fsync", &m.Fsync, FsyncOff)
	c.text("origin", &m.Origin, MaxPath)
	group(c, "attr", "attr", &m.Attr, (*Attr).fields)
	sizeless(c, m.Attr)
	c.offset("size", &m.Size)
	c.bytes32("digest", &m.Digest)
	octet(c, "encoding", &m.Encoding, EncodingZstd)
	c.rest("data", &m.Data, MaxInline)
	inline(c, m.Size, m.Encoding, len(m.Data))
}
