package tree

// An Extent is a range of bytes of a file: Offset to Offset+Length.
type Extent struct {
	Offset int64
	Length int64
}

// End returns the offset behind the last byte.
func (e Extent) End() int64 { return e.Offset + e.Length }

// Overlap returns the part that e and f share; its Length is 0 where there is
// none.
func (e Extent) Overlap(f Extent) Extent {
	start, end := max(e.Offset, f.Offset), min(e.End(), f.End())
	if end <= start {
		return Extent{Offset: start}
	}
	return Extent{Offset: start, Length: end - start}
}

// Clip returns the parts of extents, which must be ascending, that lie in e.
func (e Extent) Clip(extents []Extent) []Extent {
	var in []Extent
	for _, x := range extents {
		if o := e.Overlap(x); o.Length > 0 {
			in = append(in, o)
		}
	}
	return in
}
