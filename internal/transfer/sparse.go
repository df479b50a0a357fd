package transfer

import (
	"bytes"

	"transferd/internal/tree"
)

// holeBlock is the smallest run of zeros worth a hole: a page, which is also
// the block of most filesystems.
const holeBlock = 4096

// dataExtents returns the parts of data that are not whole blocks of zeros, as
// extents of the file that data is at offset of. It returns nil when there is
// no such block, which is the usual case and costs one comparison a block.
func dataExtents(data []byte, offset int64) []tree.Extent {
	var extents []tree.Extent
	holes := false
	start := -1 // of the run of data that block lies in
	for at := 0; at < len(data); at += holeBlock {
		block := data[at:min(at+holeBlock, len(data))]
		if isZero(block) {
			holes = true
			if start >= 0 {
				extents = append(extents, tree.Extent{Offset: offset + int64(start), Length: int64(at - start)})
				start = -1
			}
		} else if start < 0 {
			start = at
		}
	}
	if !holes {
		return nil
	}
	if start >= 0 {
		extents = append(extents, tree.Extent{Offset: offset + int64(start), Length: int64(len(data) - start)})
	}
	if extents == nil {
		return []tree.Extent{} // all of it is a hole, which nil does not say
	}
	return extents
}

// isZero reports whether block, of at least one byte, is all zeros: the first
// one is, and each is like the one after it. The comparison is the system's own.
func isZero(block []byte) bool {
	return block[0] == 0 && bytes.Equal(block[:len(block)-1], block[1:])
}

// payload is the number of bytes in a chunk that are not holes.
func payload(length int64, extents []tree.Extent) int64 {
	if extents == nil {
		return length
	}
	var n int64
	for _, x := range extents {
		n += x.Length
	}
	return n
}
