package native

import (
	"errors"
	"time"

	"transferd/internal/tree"
	"transferd/protocol"
)

// An intake puts together the chunks that come on one stream. It belongs to the
// read loop of the stream.
type intake struct {
	session *serverUploads
	st      *stream
	half    *assembly // the chunk that has begun to come; nil: none has
}

// An assembly is a chunk that is coming.
type assembly struct {
	u       *serverUpload
	index   int64
	length  int64 // of the chunk; of unknown size the most that it may have
	filled  int64 // bytes that have come
	value   tree.Value
	place   int32         // among the copies of the chunk that came whole
	holes   bool          // some of it came as holes
	extents []tree.Extent // of what did not, in the file; ascending

	// Of the session's share. While reading is not set, it may go at any moment
	// with the upload's end; both are guarded by the upload's mu.
	buf     []byte
	reading bool
}

// data takes a DATA for u, nil if that is not open any more, and reads its
// payload from the stream. It waits while there is no memory for the chunk. The error is the end of the stream, or a
// *protocol.Error: the peer is broken. What is only wrong with the upload ends
// that, and what comes for it after its end has crossed the last answer.
func (in *intake) data(u *serverUpload, m *protocol.Data) error {
	if in.half != nil && in.half.u != u {
		other := in.half.u
		in.drop()
		other.fail(refuse(protocol.CodeWrongOffset, "another upload's data came within a chunk"))
	}
	if u == nil {
		return nil
	}
	if m.Encoding == protocol.EncodingZstd && !in.session.zstd {
		return &protocol.Error{Code: protocol.CodeBadMessage, Type: protocol.TypeData, Field: "encoding"}
	}
	err := in.take(u, m)
	if err == nil {
		return nil
	}
	in.drop()
	var broken *protocol.Error
	switch {
	case errors.Is(err, errLeft):
		return nil
	case errors.As(err, &broken), errors.Is(err, tree.ErrLost):
		return err
	}
	u.fail(err)
	return nil
}

func (in *intake) take(u *serverUpload, m *protocol.Data) error {
	if in.half == nil {
		c, err := u.place(in.st, m)
		if err != nil {
			return err
		}
		in.half = c
	}
	c := in.half
	if err := u.enter(c, m); err != nil {
		return err
	}
	if c.buf == nil { // a new one is known to nobody but us
		buf := in.session.share.get(c.length, in.st.dead, u.gone)
		if buf == nil {
			if err := in.st.cause(); err != nil {
				return err
			}
			return errLeft
		}
		c.buf = buf
	}
	err := in.session.payload.receive(in.st, m, c.buf[c.filled:][:m.Length])
	if lerr := u.leave(c); err == nil {
		err = lerr
	}
	if err != nil {
		return err
	}
	c.note(m)
	if m.Flags&protocol.DataLast != 0 {
		c.value, in.half = m.Value, nil
		u.came(c)
	}
	return nil
}

// enter lets m be read into c, which the end of the upload leaves alone until
// leave.
func (u *serverUpload) enter(c *assembly, m *protocol.Data) error {
	if err := c.fits(m); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over {
		return errLeft
	}
	u.lastData = time.Now()
	c.reading = true
	return u.countLocked(c.index, c.filled+int64(m.Length))
}

func (u *serverUpload) leave(c *assembly) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	c.reading = false
	if u.over {
		return errLeft
	}
	return nil
}

// place finds out which chunk m begins.
func (u *serverUpload) place(st *stream, m *protocol.Data) (*assembly, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	size, chunk := u.asked.Size, u.asked.ChunkSize
	c := &assembly{u: u, index: m.Offset / chunk}
	switch {
	case u.over:
		return nil, errLeft
	case m.Offset%chunk != 0:
		return nil, refuse(protocol.CodeWrongOffset, "no chunk begins at byte %d", m.Offset)
	case size < 0 && (st != u.st || c.index != u.next):
		return nil, refuse(protocol.CodeWrongOffset, "chunk %d does not come in order", c.index)
	case size < 0 && c.index >= mostChunks:
		return nil, refuse(protocol.CodeTooLarge, "more than %d chunks", mostChunks)
	case size < 0:
		c.length = chunk
	case c.index >= tree.ChunkCount(size, chunk):
		return nil, refuse(protocol.CodeWrongOffset, "chunk %d is behind the end", c.index)
	default:
		c.length = tree.ChunkExtent(c.index, size, chunk).Length
	}
	s := u.chunks[c.index]
	s.coming++
	u.chunks[c.index] = s
	u.halves[c] = struct{}{}
	return c, nil
}

// fits reports what is wrong with m as the next piece of c.
func (c *assembly) fits(m *protocol.Data) error {
	u := c.u
	start, to := c.index*u.asked.ChunkSize, c.filled+int64(m.Length)
	last := m.Flags&protocol.DataLast != 0
	unknown := u.asked.Size < 0
	switch {
	case m.Offset != start+c.filled:
		return refuse(protocol.CodeWrongOffset, "byte %d came where %d was due", m.Offset, start+c.filled)
	case to > c.length:
		return refuse(protocol.CodeWrongOffset, "chunk %d is longer than %d bytes", c.index, c.length)
	case last && m.Flags&protocol.DataValue == 0:
		return refuse(protocol.CodeWrongOffset, "chunk %d ends without a value", c.index)
	case last && to < c.length && !unknown, !last && to == c.length:
		return refuse(protocol.CodeWrongOffset, "chunk %d does not end at its end", c.index)
	case m.Length == 0 && (!last || c.filled != 0 || start != 0):
		return refuse(protocol.CodeWrongOffset, "nothing came of chunk %d", c.index)
	}
	return nil
}

// note takes down what m has brought.
func (c *assembly) note(m *protocol.Data) {
	from := c.filled
	c.filled += int64(m.Length)
	x := tree.Extent{Offset: m.Offset, Length: int64(m.Length)}
	if m.Encoding == protocol.EncodingHole {
		if !c.holes && from > 0 {
			c.extents = []tree.Extent{{Offset: m.Offset - from, Length: from}}
		}
		if !c.holes && c.extents == nil {
			c.extents = []tree.Extent{} // none, which is not the same as all of it
		}
		c.holes = true
		return
	}
	if !c.holes {
		return
	}
	if n := len(c.extents); n > 0 && c.extents[n-1].End() == x.Offset {
		c.extents[n-1].Length += x.Length
		return
	}
	c.extents = append(c.extents, x)
}

// drop forgets the chunk that has begun: it never came.
func (in *intake) drop() {
	c := in.half
	if c == nil {
		return
	}
	in.half = nil
	c.u.mu.Lock()
	defer c.u.mu.Unlock()
	c.freeLocked()
	delete(c.u.halves, c)
	c.u.leftLocked(c.index)
}

// freeLocked gives back the memory of c. The caller holds its upload's mu.
func (c *assembly) freeLocked() {
	if c.buf != nil {
		c.u.session.share.put(c.buf)
		c.buf = nil
	}
}

// lost drops what has not come whole, for no more will.
func (in *intake) lost() { in.drop() }
