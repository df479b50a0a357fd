package native

import (
	"context"
	"errors"
	"io"
	"slices"

	"transferd/internal/tree"
	"transferd/protocol"
)

// readPiece is how much is read, hashed and sent at a time: it stays in the
// processor's cache meanwhile, and is a whole subtree of BLAKE3.
const readPiece = 256 << 10

// heldExtents is in how many pieces the data of an open file is remembered; what
// lies behind them counts as data.
const heldExtents = 1 << 14

// A layout is where a file has data, as it was when it was looked at.
type layout struct {
	size    int64
	mtime   int64
	extents []tree.Extent // ascending and disjoint
}

// layout tells where h's file, which e describes, has data. It is asked of the
// disk again when the file has changed.
func (h *handle) layout(ctx context.Context, e tree.Entry) ([]tree.Extent, error) {
	h.mu.Lock()
	known := h.data
	h.mu.Unlock()
	if known != nil && known.size == e.Size && known.mtime == nanos(e.Mtime) {
		return known.extents, nil
	}
	extents, err := extentsOf(ctx, h.reader, e.Size)
	if err != nil {
		return nil, err
	}
	if len(extents) > heldExtents {
		first := extents[heldExtents-1].Offset
		extents = append(slices.Clone(extents[:heldExtents-1]), tree.Extent{Offset: first, Length: e.Size - first})
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.data = &layout{size: e.Size, mtime: nanos(e.Mtime), extents: extents}
	return extents, nil
}

// extentsOf asks r where it has data; all of it is, where r does not know.
func extentsOf(ctx context.Context, r tree.Reader, size int64) ([]tree.Extent, error) {
	if x, ok := r.(tree.ExtentReader); ok {
		extents, err := x.Extents(ctx)
		if !errors.Is(err, errors.ErrUnsupported) {
			return extents, err
		}
	}
	if size == 0 {
		return nil, nil
	}
	return []tree.Extent{{Length: size}}, nil
}

// readable reports why the operation cannot read its file.
func (op *serverOp) readable() error {
	switch {
	case op.denied != nil:
		return op.denied
	case op.h.flags&protocol.OpenRead == 0:
		return refuse(protocol.CodePermission, "the handle is not open for reading")
	}
	return nil
}

// mapHoles carries out MAP.
func (op *serverOp) mapHoles(m *protocol.Map) (protocol.Message, error) {
	if err := op.readable(); err != nil {
		return nil, err
	}
	e, err := op.h.reader.Stat(op.ctx)
	if err != nil {
		return nil, err
	}
	extents, err := op.h.layout(op.ctx, e)
	if err != nil {
		return nil, err
	}
	first, _ := slices.BinarySearchFunc(extents, m.Offset, func(x tree.Extent, off int64) int {
		if x.End() <= off {
			return -1
		}
		return 1
	})
	answer := &protocol.Mapped{Last: true}
	for _, x := range extents[first:] {
		if len(answer.Extents) == protocol.MaxExtents {
			answer.Last = false
			break
		}
		if x.Offset < m.Offset {
			x = tree.Extent{Offset: m.Offset, Length: x.End() - m.Offset}
		}
		last := len(answer.Extents) - 1
		switch {
		case x.Length == 0:
		case last >= 0 && answer.Extents[last].Offset+answer.Extents[last].Length == x.Offset:
			answer.Extents[last].Length += x.Length // of the wire they must be apart
		default:
			answer.Extents = append(answer.Extents, protocol.Extent(x))
		}
	}
	return answer, nil
}

// A piece is memory for what is read at a time.
func (s *Server) piece() *[]byte {
	if b, ok := s.pieces.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, readPiece)
	return &b
}

// A chunkHash finds the value of a chunk from its pieces.
type chunkHash struct {
	piece  int64 // size of all but the last
	next   int64 // index of the next in the file
	whole  bool  // the chunk is all of its file
	values []tree.Value
}

// add takes the next piece. final says that no more come.
func (c *chunkHash) add(data []byte, final bool) {
	lone := final && len(c.values) == 0
	c.values = append(c.values, tree.ChunkValue(data, c.next, c.piece, lone && c.whole))
	c.next++
}

func (c *chunkHash) value() tree.Value {
	if c.whole {
		return tree.Value(tree.MergeValues(c.values))
	}
	return tree.JoinValues(c.values)
}

// hash carries out HASH.
func (op *serverOp) hash(m *protocol.Hash) (protocol.Message, error) {
	if err := op.readable(); err != nil {
		return nil, err
	}
	e, err := op.h.reader.Stat(op.ctx)
	if err != nil {
		return nil, err
	}
	chunk := int64(m.Chunk)
	first, total := int64(m.First), tree.ChunkCount(e.Size, chunk) //nolint:gosec // at most MaxChunks
	answer := &protocol.Hashed{}
	buf := op.on.session.server.piece()
	defer op.on.session.server.pieces.Put(buf)
	for i := first; i < total && i-first < int64(m.Count); i++ {
		v, err := op.hashChunk(tree.ChunkExtent(i, e.Size, chunk), total == 1, *buf)
		if err != nil {
			return nil, err
		}
		answer.Values = append(answer.Values, protocol.Value(v))
	}
	return answer, nil
}

// hashChunk returns the value of the chunk at x.
func (op *serverOp) hashChunk(x tree.Extent, whole bool, buf []byte) (tree.Value, error) {
	h := chunkHash{piece: int64(len(buf)), next: x.Offset / int64(len(buf)), whole: whole}
	for at := x.Offset; ; {
		if err := op.ctx.Err(); err != nil {
			return tree.Value{}, err
		}
		n := min(int64(len(buf)), x.End()-at)
		if err := readFull(op.h.reader, buf[:n], at); err != nil {
			return tree.Value{}, err
		}
		at += n
		h.add(buf[:n], at == x.End())
		if at == x.End() {
			return h.value(), nil
		}
	}
}

// readFull fills p, or the file has become shorter.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	n, err := r.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil, errors.Is(err, io.EOF):
		return tree.ErrSourceChanged
	default:
		return err
	}
}
