package transfer

import (
	"context"
	"hash/maphash"
	"math"
	"time"

	"transferd/internal/tree"
)

// names is what a directory of the destination holds, by name. A directory may
// hold a million, so an entry takes about 35 bytes besides its name and no
// pointer. The zero value is empty. It is not safe for concurrent change.
type names struct {
	partials bool // there is one that a copy uses before it is finished

	seed  maphash.Seed
	slots []uint32 // open addressing: index of an entry + 1; 0: free
	pages [][]known
	count uint32
	text  [][]byte // pages of names
	links map[uint32]string
	dates map[uint32]time.Time // what mtime cannot hold
	grain time.Duration
}

// known is what names keeps of an entry.
type known struct {
	size   int64
	mtime  uint64 // seconds since 1970 << 30 | nanoseconds
	name   uint32 // number of the page in text << textBits | offset
	length uint16 // of the name
	mode   uint16 // kind << 12 | permissions
}

const (
	knownPage = 1024 // entries
	textBits  = 15
	textPage  = 1 << textBits // bytes
)

// add notes e. A name that is there already is replaced.
func (n *names) add(e tree.Entry) {
	if len(e.Name) > math.MaxUint16 {
		return // no system has such names
	}
	if n.slots == nil {
		n.seed, n.slots = maphash.MakeSeed(), make([]uint32, 16)
	}
	n.partials = n.partials || tree.IsPartialName(e.Name)
	n.grain = max(n.grain, e.Grain)
	slot, at := n.look(e.Name)
	if at == nil {
		if n.count%knownPage == 0 {
			page := knownPage
			if n.count == 0 {
				page = 8 // most directories are small
			}
			n.pages = append(n.pages, make([]known, 0, page))
		}
		last := &n.pages[n.count/knownPage]
		*last = append(*last, known{name: n.store(e.Name), length: uint16(len(e.Name))}) //nolint:gosec // checked above
		at = &(*last)[len(*last)-1]
		n.count++
		n.slots[slot] = n.count
	}
	at.size, at.mode = e.Size, uint16(e.Kind)<<12|uint16(e.Perm&tree.PermMask)
	n.date(at, n.slots[slot]-1, e.Mtime)
	n.link(n.slots[slot]-1, e)
	if int(n.count) > len(n.slots)*3/4 {
		n.grow()
	}
}

func (n *names) date(at *known, index uint32, t time.Time) {
	sec := t.Unix()
	if sec >= 0 && sec < 1<<34 {
		at.mtime = uint64(sec)<<30 | uint64(t.Nanosecond()) //nolint:gosec // below 1e9
		delete(n.dates, index)
		return
	}
	if n.dates == nil {
		n.dates = map[uint32]time.Time{}
	}
	n.dates[index] = t
}

func (n *names) link(index uint32, e tree.Entry) {
	if e.Kind != tree.KindSymlink {
		delete(n.links, index)
		return
	}
	if n.links == nil {
		n.links = map[uint32]string{}
	}
	n.links[index] = e.Link
}

// store keeps the text of a name and returns where.
func (n *names) store(name string) uint32 {
	last := len(n.text) - 1
	if last < 0 || len(n.text[last])+len(name) > textPage {
		size := textPage
		if last < 0 {
			size = 128
		}
		n.text = append(n.text, make([]byte, 0, max(size, len(name))))
		last++
	}
	at := uint32(last)<<textBits | uint32(len(n.text[last])) //nolint:gosec // 4 GiB of names come to no end
	n.text[last] = append(n.text[last], name...)
	return at
}

func (n *names) nameOf(k *known) []byte {
	off := int(k.name % textPage)
	return n.text[k.name>>textBits][off : off+int(k.length)]
}

// look finds the slot of name, which is free where at is nil.
func (n *names) look(name string) (slot uint64, at *known) {
	mask := uint64(len(n.slots) - 1) //nolint:gosec // there are some
	for slot = maphash.String(n.seed, name) & mask; n.slots[slot] != 0; slot = (slot + 1) & mask {
		i := n.slots[slot] - 1
		k := &n.pages[i/knownPage][i%knownPage]
		if string(n.nameOf(k)) == name {
			return slot, k
		}
	}
	return slot, nil
}

func (n *names) grow() {
	n.slots = make([]uint32, 2*len(n.slots))
	mask := uint64(len(n.slots) - 1) //nolint:gosec // there are some
	for i := range n.count {
		k := &n.pages[i/knownPage][i%knownPage]
		slot := maphash.Bytes(n.seed, n.nameOf(k)) & mask
		for n.slots[slot] != 0 {
			slot = (slot + 1) & mask
		}
		n.slots[slot] = i + 1
	}
}

// get returns what has the name: its kind, size, mode, mtime and the target of
// a symlink; nil where nothing has it. A nil names is empty.
func (n *names) get(name string) *tree.Entry {
	if n == nil || n.count == 0 {
		return nil
	}
	slot, k := n.look(name)
	if k == nil {
		return nil
	}
	index := n.slots[slot] - 1
	mtime, odd := n.dates[index]
	if !odd {
		mtime = time.Unix(int64(k.mtime>>30), int64(k.mtime&(1<<30-1)))
	}
	return &tree.Entry{
		Name: name, Kind: tree.Kind(k.mode >> 12), Size: k.size, Perm: tree.Perm(k.mode) & tree.PermMask,
		Mtime: mtime, Link: n.links[index], Grain: n.grain,
	}
}

// has reports whether something has the name. A nil names is empty.
func (n *names) has(name string) bool {
	if n == nil || n.count == 0 {
		return false
	}
	_, k := n.look(name)
	return k != nil
}

// namesIn lists directory p of the destination.
func (c *copier) namesIn(ctx context.Context, label string, dst tree.Source, p tree.Path) (*names, error) {
	return retryValue(ctx, c, label, func() (*names, error) {
		n := &names{}
		for e, err := range dst.List(ctx, p) {
			if err != nil {
				return nil, err
			}
			n.add(e)
		}
		return n, nil
	})
}
