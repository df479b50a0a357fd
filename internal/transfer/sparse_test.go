package transfer

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"transferd/internal/tree"
)

func TestDataExtents(t *testing.T) {
	const b = holeBlock
	data := func(blocks string) []byte {
		var out []byte
		for _, c := range blocks {
			fill := byte(0)
			if c == 'x' {
				fill = 1
			}
			out = append(out, bytes.Repeat([]byte{fill}, b)...)
		}
		return out
	}
	for name, tt := range map[string]struct {
		data []byte
		want []tree.Extent
	}{
		"all data":          {data("xxx"), nil},
		"empty":             {nil, nil},
		"all hole":          {data("..."), []tree.Extent{}},
		"hole first":        {data(".x"), []tree.Extent{{Offset: 100 + b, Length: b}}},
		"hole last":         {data("x.."), []tree.Extent{{Offset: 100, Length: b}}},
		"hole inside":       {data("x.xx"), []tree.Extent{{Offset: 100, Length: b}, {Offset: 100 + 2*b, Length: 2 * b}}},
		"short last data":   {append(data("."), 1), []tree.Extent{{Offset: 100 + b, Length: 1}}},
		"short last zeros":  {append(data("x"), 0, 0), []tree.Extent{{Offset: 100, Length: b}}},
		"one byte in block": {append(append(data("."), make([]byte, b-1)...), 7), []tree.Extent{{Offset: 100 + b, Length: b}}},
	} {
		if diff := cmp.Diff(tt.want, dataExtents(tt.data, 100)); diff != "" {
			t.Errorf("dataExtents of %s (-want +got):\n%s", name, diff)
		}
	}
}

func FuzzDataExtentsCoverAllData(f *testing.F) {
	f.Add([]byte{1, 0, 0, 1}, int64(5))
	f.Fuzz(func(t *testing.T, pattern []byte, offset int64) {
		if offset < 0 || offset > 1<<40 || len(pattern) > 64 {
			return
		}
		var data []byte
		for _, p := range pattern {
			data = append(data, bytes.Repeat([]byte{p & 1}, int(p)*97)...)
		}
		got := make([]byte, len(data))
		extents := dataExtents(data, offset)
		if extents == nil {
			return
		}
		end := offset
		for _, x := range extents {
			if x.Offset < end || x.Length <= 0 {
				t.Fatalf("extents %v are not ascending", extents)
			}
			end = x.End()
			copy(got[x.Offset-offset:], data[x.Offset-offset:x.End()-offset])
		}
		if !bytes.Equal(got, data) {
			t.Fatalf("extents %v leave out data", extents)
		}
	})
}
