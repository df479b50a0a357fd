package native

import (
	"context"
	"crypto/sha256"
	"fmt"

	"transferd/internal/tree"
	"transferd/protocol"
)

// manyChunks is from where on a list of values is too long to be held while the
// file is published. The Writer gets none then: it has compared nothing that was
// not compared here.
const manyChunks = 1 << 18

// commit publishes the file, all of whose chunks are there, and returns the last
// answer.
func (u *serverUpload) commit(m *protocol.Commit) protocol.Message {
	f, err := u.final(u.ctx, m)
	if err != nil {
		u.fail(err)
		return u.suspend()
	}
	receipt, err := u.writer.Commit(u.ctx, f)
	if err != nil {
		return failOf(err) // it is suspended
	}
	return receiptToWire(receipt)
}

// final checks what COMMIT says against what has come.
func (u *serverUpload) final(ctx context.Context, m *protocol.Commit) (tree.Final, error) {
	f := tree.Final{Size: m.Size, HasDigest: m.HasDigest, Digest: m.Digest, Attr: attrFromWire(&m.Attr)}
	u.mu.Lock()
	want, lone := u.asked.Size, u.lone
	if want < 0 {
		want = u.size
	}
	u.mu.Unlock()
	count := tree.ChunkCount(m.Size, u.asked.ChunkSize)
	switch {
	case m.Size != want:
		return f, fmt.Errorf("%w: %d bytes, not %d", tree.ErrIntegrity, m.Size, want)
	case lone && count > 1:
		return f, fmt.Errorf("%w: the first chunk came as the only one", tree.ErrIntegrity)
	}
	if m.Size == 0 && m.Values != sha256.Sum256(make([]byte, 32)) {
		u.emptyChunk()
	}
	values, sum, err := u.values(ctx, count, m.HasDigest || count <= manyChunks)
	if err != nil {
		return f, err
	}
	if sum != m.Values {
		return f, fmt.Errorf("%w: other chunks arrived than were sent", tree.ErrIntegrity)
	}
	if count <= manyChunks {
		f.Values = values
	}
	if !m.HasDigest {
		return f, nil
	}
	got, err := digestOf(ctx, values, m.Size, u.asked.ChunkSize)
	if err == nil && got != f.Digest {
		err = fmt.Errorf("%w: the chunks make %v, not %v", tree.ErrIntegrity, got, f.Digest)
	}
	return f, err
}

// emptyChunk puts in the only chunk of an empty file if it was not sent: no bytes
// are as much data as a hole, and clients may take them for either.
func (u *serverUpload) emptyChunk() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if st := u.chunks[0]; st.phase == phaseNone {
		st.value = tree.ChunkValue(nil, 0, u.asked.ChunkSize, true)
		u.chunks[0] = st
	}
}

// values returns the values of all chunks if they are wanted, and their sum.
func (u *serverUpload) values(ctx context.Context, count int64, wanted bool) (list []tree.Value, sum [32]byte, err error) {
	if wanted {
		list = make([]tree.Value, 0, count)
	}
	h := sha256.New()
	for i := range count {
		if i%1024 == 0 && ctx.Err() != nil {
			return nil, sum, ctx.Err()
		}
		u.mu.Lock()
		v := u.chunks[i].value
		u.mu.Unlock()
		_, _ = h.Write(v[:]) // never fails
		if wanted {
			list = append(list, v)
		}
	}
	return list, [32]byte(h.Sum(nil)), nil
}

// digestOf merges values to the digest of the file, zeros lying where a value is
// zero.
func digestOf(ctx context.Context, values []tree.Value, size, chunk int64) (tree.Digest, error) {
	whole := values
	var zeros []byte
	for i, v := range values {
		if v != (tree.Value{}) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return tree.Digest{}, err
		}
		if zeros == nil {
			zeros = make([]byte, min(chunk, size))
			whole = append([]tree.Value(nil), values...)
		}
		x := tree.ChunkExtent(int64(i), size, chunk)
		whole[i] = tree.ChunkValue(zeros[:x.Length], int64(i), chunk, len(values) == 1)
	}
	return tree.MergeValues(whole), nil
}
