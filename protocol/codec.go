package protocol

import (
	"encoding/binary"
	"slices"
)

// A Field is one field of a message as docs/protocol.md lists it.
type Field struct{ Name, Type string }

type mode uint8

const (
	decoding mode = iota
	encoding
	describing
)

// A codec runs over the fields of a message. Decoding, it takes them from b;
// encoding, it appends them to b; describing, it notes them. The first error
// stays, and everything after it does nothing, so that a message is checked
// once, at its end. What may not be decoded may not be encoded either.
type codec struct {
	mode   mode
	b      []byte
	typ    Type
	err    *Error
	fields []Field
}

func (c *codec) fail(code Code, field string) {
	if c.err == nil {
		c.err = &Error{Code: code, Type: c.typ, Field: field}
	}
	if c.mode == decoding {
		c.b = nil
	}
}

// next returns n bytes: those to decode, or room to encode to. It returns nil
// where there is nothing to do.
func (c *codec) next(name, typ string, n int) []byte {
	if c.err != nil {
		return nil
	}
	switch c.mode {
	case describing:
		c.fields = append(c.fields, Field{name, typ})
		return nil
	case encoding:
		start := len(c.b)
		c.b = slices.Grow(c.b, n)[:start+n]
		return c.b[start:]
	case decoding:
	}
	if n > len(c.b) {
		c.fail(CodeBadMessage, name)
		return nil
	}
	b := c.b[:n:n]
	c.b = c.b[n:]
	return b
}

func (c *codec) u16(name string, v *uint16) {
	if b := c.next(name, "u16", 2); b == nil {
		return
	} else if c.mode == encoding {
		binary.BigEndian.PutUint16(b, *v)
	} else {
		*v = binary.BigEndian.Uint16(b)
	}
}

func (c *codec) u32(name string, v *uint32) { c.long(name, "u32", v) }

func (c *codec) long(name, typ string, v *uint32) {
	if b := c.next(name, typ, 4); b == nil {
		return
	} else if c.mode == encoding {
		binary.BigEndian.PutUint32(b, *v)
	} else {
		*v = binary.BigEndian.Uint32(b)
	}
}

func (c *codec) u64(name string, v *uint64) {
	if b := c.next(name, "u64", 8); b == nil {
		return
	} else if c.mode == encoding {
		binary.BigEndian.PutUint64(b, *v)
	} else {
		*v = binary.BigEndian.Uint64(b)
	}
}

func (c *codec) i64(name string, v *int64) {
	if b := c.next(name, "i64", 8); b == nil {
		return
	} else if c.mode == encoding {
		binary.BigEndian.PutUint64(b, uint64(*v)) //nolint:gosec // two's complement is the format
	} else {
		*v = int64(binary.BigEndian.Uint64(b)) //nolint:gosec // two's complement is the format
	}
}

// offset is a u64 that is a place or a length in a file: below 1<<63.
func (c *codec) offset(name string, v *int64) {
	if b := c.next(name, "offset", 8); b == nil {
		return
	} else if c.mode == encoding {
		binary.BigEndian.PutUint64(b, uint64(*v)) //nolint:gosec // refused below if negative
	} else {
		*v = int64(binary.BigEndian.Uint64(b)) //nolint:gosec // refused below if too large
	}
	if *v < 0 {
		c.fail(CodeBadMessage, name)
	}
}

// index is a u64 that is the index of a chunk, or a number of chunks.
func (c *codec) index(name string, v *uint64) {
	if b := c.next(name, "index", 8); b == nil {
		return
	} else if c.mode == encoding {
		binary.BigEndian.PutUint64(b, *v)
	} else {
		*v = binary.BigEndian.Uint64(b)
	}
	if *v > MaxChunks {
		c.fail(CodeBadMessage, name)
	}
}

// octet is one byte that is at most top.
func octet[T ~uint8](c *codec, name string, v *T, top T) {
	if b := c.next(name, "u8", 1); b == nil {
		return
	} else if c.mode == encoding {
		b[0] = byte(*v)
	} else {
		*v = T(b[0])
	}
	if *v > top {
		c.fail(CodeBadMessage, name)
	}
}

// flags is one byte of bits, all of them in known.
func flags[T ~uint8](c *codec, name string, v *T, known T) {
	octet(c, name, v, 0xff)
	if *v&^known != 0 {
		c.fail(CodeBadMessage, name)
	}
}

// array is bytes of a fixed number; typ says which.
func (c *codec) array(name, typ string, v []byte) {
	if b := c.next(name, typ, len(v)); b == nil {
		return
	} else if c.mode == encoding {
		copy(b, v)
	} else {
		copy(v, b)
	}
}

func (c *codec) bytes32(name string, v *[32]byte) { c.array(name, "bytes32", v[:]) }

// text is a length (u16) and so many bytes, most of them UTF-8. The string is
// a copy.
func (c *codec) text(name string, v *string, limit int) { c.str(name, "text", v, limit) }

func (c *codec) str(name, typ string, v *string, limit int) {
	n := uint16(min(len(*v), limit)) //nolint:gosec // limit is below 1<<16
	if c.mode == encoding && len(*v) > limit {
		c.fail(CodeTooLarge, name)
	}
	if b := c.next(name, typ, 2); b == nil {
		return
	} else if c.mode == encoding {
		binary.BigEndian.PutUint16(b, n)
		c.b = append(c.b, *v...)
		return
	} else if n = binary.BigEndian.Uint16(b); int(n) > limit {
		c.fail(CodeTooLarge, name)
		return
	}
	*v = string(c.next(name, typ, int(n)))
}

// path is a text that is a path in its shortest form, "." for the root.
func (c *codec) path(name string, v *string) {
	c.str(name, "path", v, MaxPath)
	if c.err == nil && c.mode != describing && !isPath(*v) {
		c.fail(CodeBadPath, name)
	}
}

func isPath(s string) bool {
	if s == "." {
		return true
	}
	start := 0
	for i := 0; i <= len(s); i++ {
		if i < len(s) && s[i] == 0 {
			return false
		}
		if i < len(s) && s[i] != '/' {
			continue
		}
		if elem := s[start:i]; elem == "" || elem == "." || elem == ".." {
			return false
		}
		start = i + 1
	}
	return true
}

// blob is a length (u32) and so many bytes, which are not copied.
func (c *codec) blob(name string, v *[]byte, limit int) {
	n := uint32(min(len(*v), limit)) //nolint:gosec // limit is small
	if c.mode == encoding && len(*v) > limit {
		c.fail(CodeTooLarge, name)
	}
	c.long(name, "blob", &n)
	if c.err != nil || c.mode == describing {
		return
	}
	if int64(n) > int64(limit) {
		c.fail(CodeTooLarge, name)
		return
	}
	if c.mode == encoding {
		c.b = append(c.b, *v...)
	} else if b := c.next(name, "blob", int(n)); n > 0 {
		*v = b
	}
}

// rest is what the frame has left, not copied.
func (c *codec) rest(name string, v *[]byte, limit int) {
	if c.mode == describing {
		c.next(name, "rest", 0)
		return
	}
	if c.mode == encoding {
		if len(*v) > limit {
			c.fail(CodeTooLarge, name)
		} else if c.err == nil {
			c.b = append(c.b, *v...)
		}
		return
	}
	if len(c.b) > limit {
		c.fail(CodeTooLarge, name)
		return
	}
	if len(c.b) > 0 {
		*v = c.b[:len(c.b):len(c.b)]
	}
	c.b = nil
}

// group is fields with a table of their own in docs/protocol.md.
func group[T any](c *codec, name, typ string, v *T, each func(*T, *codec)) {
	if c.mode == describing {
		c.next(name, typ, 0)
		return
	}
	each(v, c)
}

// list is a number (u32) and so many elements, each of at least least bytes.
func list[T any](c *codec, name, typ string, v *[]T, limit, least int, each func(*T, *codec)) {
	n := uint32(min(len(*v), limit)) //nolint:gosec // limit is small
	if c.mode == encoding && len(*v) > limit {
		c.fail(CodeTooLarge, name)
	}
	c.long(name, "list of "+typ, &n)
	if c.err != nil || c.mode == describing {
		return
	}
	if c.mode == decoding {
		switch {
		case int64(n) > int64(limit):
			c.fail(CodeTooLarge, name)
			return
		case int64(n)*int64(least) > int64(len(c.b)):
			c.fail(CodeBadMessage, name)
			return
		case n > 0:
			*v = make([]T, n)
		}
	}
	for i := range *v {
		each(&(*v)[i], c)
	}
}

// done refuses bytes behind the last field.
func (c *codec) done() {
	if c.err == nil && len(c.b) > 0 {
		c.fail(CodeBadMessage, "")
	}
}
