package protocol

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"

	"lukechampine.com/blake3"
	"lukechampine.com/blake3/guts"
)

// leaf is how many bytes BLAKE3 itself calls a chunk.
const leaf = 1024

// node is the node of a BLAKE3 tree over data, whose first leaf has the number
// first: section 1 of docs/protocol.md in its plainest form.
func node(data []byte, first uint64) guts.Node {
	if len(data) <= leaf {
		return guts.CompressChunk(data, &guts.IV, first, 0)
	}
	left := leaf
	for 2*left < len(data) {
		left *= 2
	}
	return guts.ParentNode(
		guts.ChainingValue(node(data[:left], first)),
		guts.ChainingValue(node(data[left:], first+uint64(left/leaf))), &guts.IV, 0)
}

// value is the value of a chunk of a file that has more than one.
func value(data []byte, offset int) Value {
	var v Value
	for i, word := range guts.ChainingValue(node(data, uint64(offset/leaf))) {
		binary.LittleEndian.PutUint32(v[4*i:], word)
	}
	return v
}

// merge is the digest of a file of more than one chunk.
func merge(values []Value) [32]byte {
	var up func(values []Value) guts.Node
	up = func(values []Value) guts.Node {
		left := 1
		for 2*left < len(values) {
			left *= 2
		}
		chain := func(values []Value) (cv [8]uint32) {
			if len(values) > 1 {
				return guts.ChainingValue(up(values))
			}
			for i := range cv {
				cv[i] = binary.LittleEndian.Uint32(values[0][4*i:])
			}
			return cv
		}
		return guts.ParentNode(chain(values[:left]), chain(values[left:]), &guts.IV, 0)
	}
	root := up(values)
	root.Flags |= guts.FlagRoot
	out := guts.WordsToBytes(guts.CompressNode(root))
	return [32]byte(out[:32])
}

// TestValueVectors compares values.txt with the definition, and the definition
// with BLAKE3.
func TestValueVectors(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Byte i of each file is i mod 251; chunks are of 1 MiB: size | what | bytes.\n")
	for _, size := range []int{0, 1, MinChunk, MinChunk + 1, 2 * MinChunk, 3*MinChunk + 1025} {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(i % 251)
		}
		digest := blake3.Sum256(data)
		var values []Value
		if size <= MinChunk {
			values = []Value{digest}
		} else {
			for at := 0; at < size; at += MinChunk {
				values = append(values, value(data[at:min(size, at+MinChunk)], at))
			}
			if merge(values) != digest {
				t.Errorf("the values of %d bytes do not merge to their digest", size)
			}
		}
		hash := sha256.New()
		for i, v := range values {
			fmt.Fprintf(&b, "%d | value %d | %x\n", size, i, v)
			hash.Write(v[:])
		}
		fmt.Fprintf(&b, "%d | values of COMMIT | %x\n%d | digest | %x\n", size, hash.Sum(nil), size, digest)
	}
	if *update {
		if err := os.WriteFile("testdata/values.txt", []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("testdata/values.txt")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != b.String() {
		t.Errorf("values.txt is\n%s\nwant\n%s", got, &b)
	}
}
