package native

import (
	"errors"
	"io"
	"math/bits"

	"transferd/internal/tree"
	"transferd/protocol"
)

// A sending is the answer to one READ.
type sending struct {
	op    *serverOp
	m     *protocol.Read
	end   int64 // behind the last byte that is wanted
	entry tree.Entry
	piece int
	hash  *chunkHash // nil: no value is wanted
}

// read carries out READ: it is the answer's sender too.
func (op *serverOp) read(m *protocol.Read) (protocol.Message, error) {
	if err := op.readable(); err != nil {
		return nil, err
	}
	s := &sending{op: op, m: m, end: m.Offset + int64(m.Length)}
	s.piece = 1 << (bits.Len(uint(min(readPiece, op.on.session.maxData))) - 1)
	if m.Flags&(protocol.ReadValue|protocol.ReadHoles) != 0 {
		var err error
		if s.entry, err = op.h.reader.Stat(op.ctx); err != nil {
			return nil, err
		}
	}
	if m.Flags&protocol.ReadValue != 0 {
		if err := s.wantValue(); err != nil {
			return nil, err
		}
	}
	server := op.on.session.server
	buf := server.piece()
	defer server.pieces.Put(buf)
	for at := m.Offset; ; {
		n, last, err := s.send(at, (*buf)[:min(int64(s.piece), s.end-at)])
		if err != nil {
			return nil, err
		}
		if last {
			return nil, nil //nolint:nilnil // it has been answered
		}
		at += n
	}
}

// wantValue prepares for the value of the chunk that is asked for. What the file
// is now decides where it ends and whether it is the only one.
func (s *sending) wantValue() error {
	chunk, size := int64(s.m.Chunk), s.entry.Size
	switch {
	case s.m.Offset%chunk != 0 || int64(s.m.Length) > chunk:
		return refuse(protocol.CodeBadMessage, "a value is of a whole chunk")
	case s.m.Offset > size:
		return tree.ErrSourceChanged
	case int64(s.m.Length) < chunk && s.end < size:
		return tree.ErrSourceChanged // it was the last chunk when the client looked
	}
	s.end = min(s.end, size)
	s.hash = &chunkHash{
		piece: int64(s.piece), next: s.m.Offset / int64(s.piece),
		whole: tree.ChunkCount(size, chunk) == 1,
	}
	return nil
}

// send reads what fits buf and sends it. It returns how much that was, and
// whether it was the last.
func (s *sending) send(at int64, buf []byte) (n int64, last bool, err error) {
	op := s.op
	if err := op.ctx.Err(); err != nil {
		return 0, false, err
	}
	m := protocol.Data{Offset: at}
	got, eof, err := s.readAt(buf, at)
	if err != nil {
		return 0, false, err
	}
	at += int64(got)
	if last = eof || at == s.end; last {
		m.Flags |= protocol.DataLast
	}
	if eof {
		m.Flags |= protocol.DataEOF
	}
	if s.hash != nil {
		s.hash.add(buf[:got], last)
		if last {
			m.Flags |= protocol.DataValue
			m.Value = s.hash.value()
		}
	}
	scratch, err := s.pack(&m, buf[:got])
	if scratch != nil {
		defer op.on.session.server.payloads.giveBack(scratch)
	}
	if err != nil {
		return 0, false, err
	}
	if last {
		op.settle()
		_ = op.on.conn.sendData(op.on.session.hard, op.id, &m) // where it fails, nobody is left to hear of it
		return int64(got), true, nil
	}
	return int64(got), false, op.on.conn.sendData(op.ctx, op.id, &m)
}

// readAt reads to buf as far as the file goes, and reports whether it ends there.
func (s *sending) readAt(buf []byte, at int64) (n int, eof bool, err error) {
	if s.hash != nil {
		return len(buf), at+int64(len(buf)) == s.entry.Size, readFull(s.op.h.reader, buf, at)
	}
	if len(buf) == 0 {
		return 0, false, nil
	}
	n, err = s.op.h.reader.ReadAt(buf, at)
	switch {
	case errors.Is(err, io.EOF) || n < len(buf) && err == nil:
		return n, true, nil
	case err != nil:
		return 0, false, err
	}
	return n, false, nil
}

// pack chooses how the bytes of m travel. scratch, if not nil, is where they lie
// then.
func (s *sending) pack(m *protocol.Data, data []byte) (scratch *[]byte, err error) {
	m.Length = uint32(len(data)) //nolint:gosec // at most readPiece
	one := s.op.on.session
	if s.m.Flags&protocol.ReadHoles != 0 && len(data) > 0 && isZero(data) {
		extents, err := s.op.h.layout(s.op.ctx, s.entry)
		if err != nil {
			return nil, err
		}
		if len(tree.Extent{Offset: m.Offset, Length: int64(len(data))}.Clip(extents)) == 0 {
			m.Encoding = protocol.EncodingHole
			return nil, nil //nolint:nilnil // no memory is needed
		}
	}
	if s.m.Flags&protocol.ReadZstd != 0 && one.zstd {
		scratch = one.server.payloads.room()
		if packed, ok := s.op.h.squeeze.pack(&one.server.payloads, (*scratch)[:0], data); ok {
			m.Encoding, m.Payload = protocol.EncodingZstd, packed
			return scratch, nil
		}
	}
	m.Payload = data
	return scratch, nil
}

// isZero reports whether p is all zeros. Most that is not shows it at once.
func isZero(p []byte) bool {
	const step = 64
	var zeros [step]byte
	for len(p) >= step {
		if [step]byte(p[:step]) != zeros {
			return false
		}
		p = p[step:]
	}
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}
