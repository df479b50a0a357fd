package protocol

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
)

// HeaderSize is the length of a frame's header:
//
//	u32 length of the body
//	u8  type
//	u64 id of the operation, 0 for none
const HeaderSize = 13

// A Header is what stands before the body of a frame.
type Header struct {
	Length uint32
	Type   Type
	ID     uint64
}

// A Message is the body of a frame: one of the types of this package.
type Message interface {
	kind() Type
	fields(c *codec)
}

// TypeOf returns the type of m's frame.
func TypeOf(m Message) Type { return m.kind() }

// Fields returns the fields of the message in their order on the wire; nil if
// it is unknown.
func (t Type) Fields() []Field {
	if !t.Known() {
		return nil
	}
	c := codec{mode: describing}
	types[t].make().fields(&c)
	return c.fields
}

func appendHeader(dst []byte, h Header) []byte {
	dst = binary.BigEndian.AppendUint32(dst, h.Length)
	dst = append(dst, byte(h.Type))
	return binary.BigEndian.AppendUint64(dst, h.ID)
}

func parseHeader(b []byte) Header {
	return Header{binary.BigEndian.Uint32(b), Type(b[4]), binary.BigEndian.Uint64(b[5:])}
}

// Append appends the frame of m to dst. The error is an *Error if m breaks a
// limit or could not be decoded; dst is then returned as it was.
func Append(dst []byte, id uint64, m Message) ([]byte, error) {
	t := m.kind()
	start := len(dst)
	c := codec{mode: encoding, typ: t, b: appendHeader(dst, Header{Type: t, ID: id})}
	m.fields(&c)
	n := len(c.b) - start - HeaderSize
	if n > MaxFrame {
		c.fail(CodeTooLarge, "")
	}
	if c.err != nil {
		return dst, c.err
	}
	binary.BigEndian.PutUint32(c.b[start:], uint32(n)) //nolint:gosec // at most MaxFrame
	return c.b, nil
}

// Decode decodes the body of a frame of type t. Byte slices in the message lie
// in body; everything else is a copy. The error is an *Error, UNSUPPORTED for a
// type that is unknown.
func Decode(t Type, body []byte) (Message, error) {
	if !t.Known() {
		return nil, &Error{Code: CodeUnsupported, Type: t}
	}
	m := types[t].make()
	c := codec{typ: t, b: body}
	m.fields(&c)
	c.done()
	if c.err != nil {
		return nil, c.err
	}
	return m, nil
}

// A Reader cuts a stream into frames: Next, then Body, or Data and Read. It
// reads no further than the frame, and so can be given up between two. Make it
// with NewReader; it is not safe for concurrent use.
type Reader struct {
	r     io.Reader
	limit uint32

	head    Header
	left    uint32 // of the body, not read yet
	scratch [max(HeaderSize, DataSize)]byte
}

// NewReader returns a Reader of r that refuses bodies above limit bytes, and
// above MaxFrame anyway.
func NewReader(r io.Reader, limit int) *Reader {
	f := &Reader{r: r}
	f.SetLimit(limit)
	return f
}

// SetLimit changes the limit for frames to come.
func (f *Reader) SetLimit(limit int) { f.limit = uint32(max(0, min(limit, MaxFrame))) }

// Next reads the header of the next frame; what was not read of the one before
// is skipped. The error is io.EOF between two frames, io.ErrUnexpectedEOF
// within one, and an *Error (TOO_LARGE) for a body above the limit, after which
// the stream is of no more use.
func (f *Reader) Next() (Header, error) {
	if f.left > 0 {
		if _, err := io.Copy(io.Discard, f); err != nil {
			return Header{}, err
		}
	}
	if _, err := io.ReadFull(f.r, f.scratch[:HeaderSize]); err != nil {
		return Header{}, err
	}
	f.head = parseHeader(f.scratch[:])
	if f.head.Length > f.limit {
		return f.head, &Error{Code: CodeTooLarge, Type: f.head.Type}
	}
	f.left = f.head.Length
	return f.head, nil
}

// step bounds the memory that a frame gets before its bytes are there.
const step = 64 << 10

// Body reads what is left of the frame, into the memory of buf as far as it
// goes.
func (f *Reader) Body(buf []byte) ([]byte, error) {
	buf = buf[:0]
	for f.left > 0 {
		at := len(buf)
		n := min(int(f.left), max(step, cap(buf)-at))
		buf = slices.Grow(buf, n)[:at+n]
		if _, err := io.ReadFull(f, buf[at:]); err != nil {
			return buf[:at], err
		}
	}
	return buf, nil
}

// Read reads from the body of the frame, io.EOF at its end.
func (f *Reader) Read(p []byte) (int, error) {
	if f.left == 0 {
		return 0, io.EOF
	}
	if uint64(len(p)) > uint64(f.left) {
		p = p[:f.left]
	}
	n, err := f.r.Read(p)
	f.left -= uint32(n) //nolint:gosec // at most len(p)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
		if f.left == 0 {
			err = nil // the next Next will say so
		}
	}
	return n, err
}

// ReadPreface reads up to and with the preface, and no further. Up to noise
// bytes of something else may come before it. The error is BAD_MESSAGE where
// there is no preface.
func ReadPreface(r io.Reader, noise int) error {
	var buf [len(Preface)]byte
	have := 0
	for {
		if _, err := io.ReadFull(r, buf[have:]); err != nil {
			return err
		}
		if string(buf[:]) == Preface {
			return nil
		}
		// Its first byte stands nowhere else in it.
		have = 0
		if i := slices.Index(buf[1:], Preface[0]); i >= 0 {
			have = copy(buf[:], buf[1+i:])
		}
		if noise -= len(buf) - have; noise < 0 {
			return &Error{Code: CodeBadMessage, Field: "preface"}
		}
	}
}
