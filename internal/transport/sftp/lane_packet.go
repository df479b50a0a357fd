package sftp

import "encoding/binary"

// ownID marks the request ids of the client's own packets; those of pkg/sftp
// count up from 1 and never get here.
const ownID = 1 << 31

// headerSize is length, type and id: what every packet but INIT and VERSION
// begins with.
const headerSize = 9

// A query is a request under construction. Its length and id are filled in
// when it is sent.
type query []byte

// newQuery begins a packet with room for n bytes of fields.
func newQuery(t packetType, n int) query {
	r := make(query, headerSize, headerSize+n)
	r[4] = byte(t)
	return r
}

// queryOn is a request whose first field is a path or a handle.
func queryOn(t packetType, s string) query {
	return newQuery(t, len(s)+64).text(s)
}

// extended is a request of the extension name with text fields.
func extended(name string, fields ...string) query {
	n := len(name) + 64
	for _, f := range fields {
		n += len(f) + 4
	}
	r := newQuery(typeExtended, n).text(name)
	for _, f := range fields {
		r = r.text(f)
	}
	return r
}

func (r query) uint32(v uint32) query { return binary.BigEndian.AppendUint32(r, v) }
func (r query) uint64(v uint64) query { return binary.BigEndian.AppendUint64(r, v) }

func (r query) text(s string) query {
	r = r.uint32(uint32(len(s))) //nolint:gosec // paths and handles are short
	return append(r, s...)
}

func (r query) attrs(a attrs) query {
	w := builder{b: r}
	w.attrs(a)
	return w.b
}

func (r query) finish(id uint32) {
	binary.BigEndian.PutUint32(r, uint32(len(r)-4)) //nolint:gosec // bounded by the packet size
	binary.BigEndian.PutUint32(r[5:], id)
}
