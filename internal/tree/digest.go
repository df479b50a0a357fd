package tree

import (
	"encoding/binary"
	"encoding/hex"
	"math/bits"

	"lukechampine.com/blake3/guts"
)

// A Digest is the BLAKE3 root of a whole file: what b3sum prints.
type Digest [32]byte

// String returns the digest in lower-case hex.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// A Value is the BLAKE3 chaining value of one aligned chunk: not the hash of
// its bytes alone, but of these bytes at this place of the file, so that the
// values of all chunks merge to the file's Digest. A file of at most one chunk
// has its Digest as its only Value. The zero Value means none.
type Value [32]byte

// Chunk sizes are powers of two and multiples of 16 KiB, which is what the
// SIMD code of BLAKE3 takes at a time.
const (
	MinChunkSize = 1 << 20
	MaxChunkSize = 4 << 20
)

// ChunkSizeFor returns the chunk size for a file of size bytes: it grows so
// that the journal of a large file stays small, and is bounded because chunks
// are held in memory. Unknown sizes (-1) get the smallest.
func ChunkSizeFor(size int64) int64 {
	chunk := int64(MinChunkSize)
	for chunk < MaxChunkSize && size/chunk >= 1<<16 {
		chunk <<= 1
	}
	return chunk
}

// ChunkCount returns how many chunks a file of size bytes has; an empty file
// has one, which is empty.
func ChunkCount(size, chunkSize int64) int64 {
	return max(1, (size+chunkSize-1)/chunkSize)
}

// ChunkExtent returns the place of chunk index in a file of size bytes.
func ChunkExtent(index, size, chunkSize int64) Extent {
	off := index * chunkSize
	return Extent{Offset: off, Length: min(chunkSize, size-off)}
}

// ChunkValue returns the value of chunk index, data being all of it. whole says
// that this chunk is the only one of its file.
func ChunkValue(data []byte, index, chunkSize int64, whole bool) Value {
	n := subtree(data, uint64(index)*uint64(chunkSize/guts.ChunkSize)) //nolint:gosec // neither is negative
	if whole {
		return Value(rootOf(n))
	}
	return bytesOf(guts.ChainingValue(n))
}

// MergeValues returns the digest of a file from the values of all its chunks,
// in order, at least one.
func MergeValues(values []Value) Digest {
	if len(values) == 1 {
		return Digest(values[0])
	}
	half := leftLen(len(values))
	return rootOf(guts.ParentNode(merge(values[:half]), merge(values[half:]), &guts.IV, 0))
}

// JoinValues returns the value of a chunk from those of its pieces, which are
// chunks themselves, of one size that is a power of two, the last one shorter.
// The chunk is not all of its file: that one's value is MergeValues.
func JoinValues(values []Value) Value {
	return bytesOf(merge(values))
}

func merge(values []Value) [8]uint32 {
	if len(values) == 1 {
		return wordsOf(values[0])
	}
	half := leftLen(len(values))
	return guts.ChainingValue(guts.ParentNode(merge(values[:half]), merge(values[half:]), &guts.IV, 0))
}

// leftLen is the largest power of two below n: how many leaves the left side of
// a BLAKE3 tree of n leaves has (BLAKE3 paper, section 2.1).
func leftLen(n int) int { return 1 << (bits.Len(uint(n-1)) - 1) }

// subtree compresses data, whose first byte is at counter × 1 KiB of the file,
// to its top node. It works in place on 16 KiB at a time, in one goroutine:
// callers hash several chunks at once instead.
func subtree(data []byte, counter uint64) guts.Node {
	const block = guts.MaxSIMD * guts.ChunkSize
	if len(data) <= block {
		if cap(data) >= block {
			return guts.CompressBuffer((*[block]byte)(data[:block]), len(data), &guts.IV, counter, 0)
		}
		var buf [block]byte
		copy(buf[:], data)
		return guts.CompressBuffer(&buf, len(data), &guts.IV, counter, 0)
	}
	half := block * leftLen((len(data)+block-1)/block)
	left := guts.ChainingValue(subtree(data[:half:half], counter))
	right := guts.ChainingValue(subtree(data[half:], counter+uint64(half/guts.ChunkSize))) //nolint:gosec // not negative
	return guts.ParentNode(left, right, &guts.IV, 0)
}

func rootOf(n guts.Node) Digest {
	n.Flags |= guts.FlagRoot
	out := guts.WordsToBytes(guts.CompressNode(n))
	return Digest(out[:32])
}

func bytesOf(cv [8]uint32) (v Value) {
	for i, w := range cv {
		binary.LittleEndian.PutUint32(v[4*i:], w)
	}
	return v
}

func wordsOf(v Value) (cv [8]uint32) {
	for i := range cv {
		cv[i] = binary.LittleEndian.Uint32(v[4*i:])
	}
	return cv
}
