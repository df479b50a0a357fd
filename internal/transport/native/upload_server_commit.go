package native

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"

	"transferd/internal/tree"
	"transferd/protocol"
)

// manyChunks is from where on a list of values is too long to be held while the
// file is published. The Writer gets none then: it has compared nothing that was
// not compared here.
const manyChunks = 1 << 18

// A file of more than fewChunks takes one of parallelCommits places of its
// session while its chunks are gone through, since holes cost a client nothing
// and us their hashing; with more than longChunks it also has one while it is
// published, since its values lie in memory until then.
const (
	fewChunks       = 1 << 4
	longChunks      = 1 << 10
	parallelCommits = 4
)

// commit publishes the file, all of whose chunks are there, and returns the last
// answer.
func (u *serverUpload) commit(m *protocol.Commit) protocol.Message {
	count := tree.ChunkCount(m.Size, u.asked.ChunkSize)
	leave := func() {}
	if count > fewChunks {
		select {
		case u.session.commits <- struct{}{}:
			leave = sync.OnceFunc(func() { <-u.session.commits })
		case <-u.ctx.Done():
		}
	}
	defer leave()
	f, err := u.final(u.ctx, m)
	if err != nil {
		u.fail(err)
		return u.suspend()
	}
	if count <= longChunks {
		leave()
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
	sum, err := u.sumOfValues(ctx, count)
	if err != nil {
		return f, err
	}
	if sum != m.Values {
		return f, fmt.Errorf("%w: other chunks arrived than were sent", tree.ErrIntegrity)
	}
	if count <= manyChunks {
		f.Values = make([]tree.Value, count)
		for i := range f.Values {
			f.Values[i] = u.valueOf(int64(i))
		}
	}
	if !m.HasDigest {
		return f, nil
	}
	got, err := u.digest(ctx, m.Size)
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

// valueOf returns the value of a chunk, zero for a hole.
func (u *serverUpload) valueOf(i int64) tree.Value {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.chunks[i].value
}

// sumOfValues is what COMMIT has in values.
func (u *serverUpload) sumOfValues(ctx context.Context, count int64) (sum [32]byte, err error) {
	h := sha256.New()
	for i := range count {
		if i%1024 == 0 && ctx.Err() != nil {
			return sum, ctx.Err()
		}
		v := u.valueOf(i)
		_, _ = h.Write(v[:]) // never fails
	}
	return [32]byte(h.Sum(nil)), nil
}

// digest merges the values of all chunks to the digest of the file, zeros lying
// where a value is zero. It keeps one value for each level of the tree, however
// many chunks there are.
func (u *serverUpload) digest(ctx context.Context, size int64) (tree.Digest, error) {
	chunk := u.asked.ChunkSize
	count := tree.ChunkCount(size, chunk)
	var left []tree.Value // of whole subtrees, the largest first
	for i := range count {
		v := u.valueOf(i)
		if v == (tree.Value{}) {
			if err := ctx.Err(); err != nil {
				return tree.Digest{}, err
			}
			x := tree.ChunkExtent(i, size, chunk)
			v = tree.ChunkValue(u.session.payload.zeros()[:x.Length], i, chunk, count == 1)
		}
		if i == count-1 {
			left = append(left, v)
			break
		}
		for n := i + 1; n%2 == 0; n /= 2 {
			v = tree.JoinValues([]tree.Value{left[len(left)-1], v})
			left = left[:len(left)-1]
		}
		left = append(left, v)
	}
	for len(left) > 2 {
		n := len(left)
		left = append(left[:n-2], tree.JoinValues(left[n-2:]))
	}
	return tree.MergeValues(left), nil
}
