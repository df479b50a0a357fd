package native

import (
	"context"
	"errors"
	"fmt"
	"io"

	"transferd/internal/tree"
	"transferd/protocol"
)

// put carries out PUT.
func (op *serverOp) put(m *protocol.Put) (protocol.Message, error) {
	in, err := op.in()
	if err != nil {
		return nil, err
	}
	one := op.on.session
	if m.Size > int64(one.inline()) {
		return nil, refuse(protocol.CodeTooLarge, "a small file has at most %d bytes here", one.inline())
	}
	data := m.Data
	if m.Encoding != protocol.EncodingRaw || int64(len(data)) != m.Size {
		if m.Encoding == protocol.EncodingZstd && !one.zstd {
			return nil, errPayload(protocol.TypePut)
		}
		data = make([]byte, m.Size)
		if err := one.server.payloads.unpack(protocol.TypePut, data, m.Encoding, m.Data); err != nil {
			return nil, err
		}
	}
	receipt, err := putSmall(op.ctx, in, putFromWire(m, data))
	if err != nil {
		return nil, err
	}
	return receiptToWire(receipt), nil
}

// putSmall writes s, in one step where the tree can.
func putSmall(ctx context.Context, in part, s tree.Small) (tree.Receipt, error) {
	if putter, ok := in.(tree.Putter); ok {
		receipt, err := putter.Put(ctx, s)
		if !errors.Is(err, errors.ErrUnsupported) {
			return receipt, err
		}
	}
	size, value := int64(len(s.Data)), tree.ChunkValue(s.Data, 0, tree.MinChunkSize, true)
	if tree.Digest(value) != s.Digest {
		return tree.Receipt{}, tree.ErrIntegrity
	}
	w, err := in.Begin(ctx, tree.Upload{
		Path: s.Path, Size: size, Origin: s.Origin, ChunkSize: tree.MinChunkSize,
		InPlace: s.InPlace, NoReplace: s.NoReplace, Verify: s.Verify, Fsync: s.Fsync,
	})
	if err != nil {
		return tree.Receipt{}, err
	}
	if err := w.WriteChunk(ctx, tree.Chunk{Data: s.Data, Value: value}); err != nil {
		return tree.Receipt{}, errors.Join(err, w.Abort(context.WithoutCancel(ctx)))
	}
	return w.Commit(ctx, tree.Final{
		Size: size, Digest: s.Digest, Values: []tree.Value{value}, HasDigest: true, Attr: s.Attr,
	})
}

// get carries out GET.
func (op *serverOp) get(m *protocol.Get) (protocol.Message, error) {
	in, err := op.in()
	if err != nil {
		return nil, err
	}
	one := op.on.session
	got, err := getSmall(op.ctx, in, tree.Path(m.Path), min(int64(m.Limit), int64(one.inline())))
	if err != nil {
		return nil, err
	}
	answer := &protocol.Got{Entry: entryToWire(got.Entry, nil), Digest: got.Digest, Data: got.Data}
	if m.Flags&protocol.ReadZstd != 0 && one.zstd {
		if packed, ok := one.squeeze.pack(&one.server.payloads, nil, got.Data); ok {
			answer.Encoding, answer.Data = protocol.EncodingZstd, packed
		}
	}
	return answer, nil
}

// getSmall reads the file that p leads to, in one step where the tree can.
func getSmall(ctx context.Context, in part, p tree.Path, limit int64) (tree.Got, error) {
	if getter, ok := in.(tree.Getter); ok {
		most, err := getter.GetLimit(ctx)
		if err != nil {
			return tree.Got{}, err
		}
		if most >= limit {
			got, err := getter.Get(ctx, p, limit)
			if errors.Is(err, errors.ErrUnsupported) {
				err = errTooLarge(limit)
			}
			return got, err
		}
	}
	r, err := in.Open(ctx, p)
	if err != nil {
		return tree.Got{}, err
	}
	got, err := readSmall(ctx, r, limit)
	return got, errors.Join(err, r.Close())
}

func errTooLarge(limit int64) error {
	return refuse(protocol.CodeTooLarge, "the file has more than %d bytes", limit)
}

// readSmall reads all of r, which must not change meanwhile.
func readSmall(ctx context.Context, r tree.Reader, limit int64) (tree.Got, error) {
	before, err := r.Stat(ctx)
	if err != nil {
		return tree.Got{}, err
	}
	if before.Size > limit {
		return tree.Got{}, errTooLarge(limit)
	}
	data := make([]byte, before.Size+1) // one more shows that it has grown
	n, err := r.ReadAt(data, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return tree.Got{}, err
	}
	after, err := r.Stat(ctx)
	if err != nil {
		return tree.Got{}, err
	}
	if int64(n) != before.Size || after.Identity() != before.Identity() {
		return tree.Got{}, fmt.Errorf("%w: %d bytes became %d", tree.ErrSourceChanged, before.Size, n)
	}
	data = data[:n]
	digest := tree.Digest(tree.ChunkValue(data, 0, tree.MinChunkSize, true))
	return tree.Got{Entry: before, Data: data, Digest: digest}, nil
}
