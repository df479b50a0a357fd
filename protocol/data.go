package protocol

import "io"

// An Encoding says how the payload of a file's bytes travels.
type Encoding uint8

// The encodings.
const (
	EncodingRaw  Encoding = 0
	EncodingZstd Encoding = 1 // one zstd frame (RFC 8878) of exactly Length bytes
	EncodingHole Encoding = 2 // no payload; Length zeros that are a hole
)

// DataFlags are the flags of a DATA.
type DataFlags uint8

// What a DATA may say.
const (
	DataLast  DataFlags = 1 << iota // the chunk, or the answer to the READ, ends here
	DataValue                       // with DataLast: Value is set
	DataEOF                         // with DataLast: the file ends behind these bytes

	dataKnown = DataLast | DataValue | DataEOF
)

// DataSize is the length of a DATA's body without its payload.
const DataSize = 46

// Data carries bytes of a file: of a chunk to an upload, or of what a READ
// asked for.
type Data struct {
	Offset   int64
	Length   uint32 // bytes of the file, whatever the encoding makes of them
	Encoding Encoding
	Flags    DataFlags
	Value    [32]byte // of the whole chunk, with DataLast
	Payload  []byte
}

func (*Data) kind() Type { return TypeData }

func (m *Data) fields(c *codec) {
	m.fixed(c)
	c.rest("payload", &m.Payload, MaxData)
	if c.err == nil && c.mode != describing {
		m.check(c, len(m.Payload))
	}
}

func (m *Data) fixed(c *codec) {
	c.offset("offset", &m.Offset)
	c.u32("length", &m.Length)
	octet(c, "encoding", &m.Encoding, EncodingHole)
	flags(c, "flags", &m.Flags, dataKnown)
	c.bytes32("value", &m.Value)
}

// check compares the payload's length with what the fields say of it.
func (m *Data) check(c *codec, payload int) {
	limit := uint32(MaxData)
	switch m.Encoding {
	case EncodingRaw:
		if int64(payload) != int64(m.Length) {
			c.fail(CodeBadMessage, "payload")
		}
	case EncodingZstd:
		if payload == 0 {
			c.fail(CodeBadMessage, "payload")
		}
	case EncodingHole:
		limit = MaxChunk
		if payload != 0 {
			c.fail(CodeBadMessage, "payload")
		}
	}
	if m.Length > limit {
		c.fail(CodeTooLarge, "length")
	}
	if m.Flags&DataLast == 0 && m.Flags != 0 {
		c.fail(CodeBadMessage, "flags") // both say something of an end
	}
	if m.Flags&DataValue == 0 && m.Value != [32]byte{} {
		c.fail(CodeBadMessage, "value")
	}
	if m.Offset+int64(m.Length) < m.Offset {
		c.fail(CodeBadMessage, "offset")
	}
}

// AppendData appends the frame of m without its payload, which the caller
// writes behind it. Nothing is copied, and nothing allocated where dst has room
// for HeaderSize+DataSize bytes.
func AppendData(dst []byte, id uint64, m *Data) ([]byte, error) {
	n := DataSize + len(m.Payload)
	c := codec{mode: encoding, typ: TypeData, b: appendHeader(dst, Header{Type: TypeData, ID: id, Length: uint32(min(n, MaxFrame))})}
	m.fixed(&c)
	if len(m.Payload) > MaxData {
		c.fail(CodeTooLarge, "payload")
	}
	m.check(&c, len(m.Payload))
	if c.err != nil {
		return dst, c.err
	}
	return c.b, nil
}

// Data reads the fields of a DATA and leaves its payload to Read: Pending bytes
// that can go straight to where they belong. Payload is not touched.
func (f *Reader) Data(m *Data) error {
	c := codec{typ: TypeData}
	if f.head.Type != TypeData || f.left != f.head.Length || f.left < DataSize {
		c.fail(CodeBadMessage, "")
		return c.err
	}
	if _, err := io.ReadFull(f, f.scratch[:DataSize]); err != nil {
		return err
	}
	c.b = f.scratch[:DataSize]
	m.fixed(&c)
	if f.left > MaxData {
		c.fail(CodeTooLarge, "payload")
	}
	if c.err == nil {
		m.check(&c, int(f.left))
	}
	if c.err != nil {
		return c.err
	}
	return nil
}

// Pending returns how many bytes of the frame's body have not been read.
func (f *Reader) Pending() int { return int(f.left) }
