package native

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"transferd/internal/tree"
	"transferd/internal/tree/treetest"
	"transferd/protocol"
)

// Bodies that wait behind a slow disk are memory, whatever they ask for.
func TestLongRequestsAreNotGatheredWithoutBound(t *testing.T) {
	body := make([]byte, protocol.MaxData)
	xattrs := make([]protocol.Xattr, 15)
	for i := range xattrs {
		xattrs[i] = protocol.Xattr{Name: fmt.Sprintf("user.%d", i), Value: body[:protocol.MaxXattr]}
	}
	attr := protocol.Attr{Set: protocol.AttrXattrs, Xattrs: xattrs}
	put := putOf("f", "")
	put.Attr = attr
	for _, m := range []protocol.Message{
		&protocol.Extend{Name: "x@y", Body: body}, &protocol.SetAttr{Place: at("slow"), Attr: attr}, put,
	} {
		t.Run(protocol.TypeOf(m).String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, ServerConfig{})
				hold := make(chan struct{})
				r.gate(func(op, _ string) {
					if op == "mkdir" {
						<-hold
					}
				})
				c := r.login()
				c.send(1, &protocol.Mkdir{Place: at("slow"), Perm: 0o700})
				const many = 3 * smallBytes / protocol.MaxData
				go func() {
					for i := range many {
						c.send(uint64(2+i), m)
					}
				}()
				synctest.Wait()
				r.server.mu.Lock()
				for _, one := range r.server.sessions {
					one.mu.Lock()
					if n := len(one.open); n > smallBytes/protocol.MaxData+9 {
						t.Errorf("%d operations of a megabyte are held", n)
					}
					one.mu.Unlock()
				}
				r.server.mu.Unlock()
				close(hold)
				for range many + 1 {
					if _, m, err := c.next(); err != nil {
						t.Fatalf("next = %+v, %v", m, err)
					}
				}
				c.bye()
				r.group.Wait()
				if r.server.small.free != smallBytes {
					t.Errorf("%d bytes are still counted", smallBytes-r.server.small.free)
				}
			})
		})
	}
}

func TestAttributesOfManyCommitsAreBounded(t *testing.T) {
	bubble(t, 1, func(t *testing.T, p *uploadHost) {
		p.ups.attrs.limit = 100 << 10
		data := treetest.Data(1, testChunk)
		l := p.streams[0]
		m := commitOf(treetest.FinalOf(data), 1)
		m.Attr.Set |= protocol.AttrXattrs
		m.Attr.Xattrs = []protocol.Xattr{{Name: "user.a", Value: make([]byte, protocol.MaxXattr)}}
		for id := range uint64(2) {
			l.begin(id+1, treetest.Upload(tree.Path(fmt.Sprint(id)), data))
			l.say(id+1, m)
		}
		got, _ := l.answer(2)
		wantFail(t, got, protocol.CodeLimit)
		l.chunk(1, treetest.Chunks(data)[0], testChunk)
		got, _ = l.answer(1)
		wantCommitted(t, got)
		synctest.Wait()
		if p.ups.attrs.used != 0 {
			t.Errorf("%d bytes are still counted", p.ups.attrs.used)
		}
	})
}

func TestDigestOfChunksAndHoles(t *testing.T) {
	for _, size := range []int64{0, 1, testChunk, testChunk + 1, 2 * testChunk, 3*testChunk + 9, 5 * testChunk, 8 * testChunk, 13*testChunk - 1} {
		data := treetest.Data(7, int(size))
		u := &serverUpload{
			session: &serverUploads{payload: &payloads{}}, asked: tree.Upload{ChunkSize: testChunk},
			chunks: map[int64]chunkState{},
		}
		var values []tree.Value
		count := tree.ChunkCount(size, testChunk)
		for i := range count {
			x := tree.ChunkExtent(i, size, testChunk)
			chunk := data[x.Offset:x.End()]
			if i%3 == 1 {
				clear(chunk)
			}
			v := tree.ChunkValue(bytes.Clone(chunk), i, testChunk, count == 1)
			values = append(values, v)
			if i%3 != 1 {
				u.chunks[i] = chunkState{value: v}
			}
		}
		if got, err := u.digest(t.Context(), size); err != nil || got != tree.MergeValues(values) {
			t.Errorf("%d bytes: %v, %v, want %v", size, got, err, tree.MergeValues(values))
		}
	}
}

func TestDeepListsThatWaitKeepNoOtherFromBeingServed(t *testing.T) {
	r := newRig(t, ServerConfig{})
	c := r.login()
	ask[*protocol.OK](c, 1, &protocol.Mkdir{Place: at("d"), Perm: 0o700})
	const many = 2 * parallelWalks
	for i := range many {
		c.send(uint64(100+i), &protocol.List{Place: at("."), Flags: protocol.ListDeep})
	}
	ask[*protocol.Listed](c, 2, &protocol.List{Place: at("."), Frames: 1})
	for i := range many {
		c.fails(uint64(100+i), &protocol.Cancel{}, protocol.CodeCancelled)
	}
	c.bye()
}

// A shredded file has data in more places than anybody needs to remember.
type shredded struct{ tree.Reader }

func (shredded) Extents(context.Context) ([]tree.Extent, error) {
	list := make([]tree.Extent, 2*heldExtents)
	for i := range list {
		list[i] = tree.Extent{Offset: int64(i) << 13, Length: 1 << 12}
	}
	return list, nil
}

func TestTheLayoutOfAShreddedFileIsBounded(t *testing.T) {
	h := &handle{reader: shredded{}}
	e := tree.Entry{Size: 2 * heldExtents << 13}
	list, err := h.layout(t.Context(), e)
	if err != nil || len(list) != heldExtents || cap(h.data.extents) > 2*heldExtents {
		t.Fatalf("%d extents with room for %d, %v", len(list), cap(h.data.extents), err)
	}
	if last := list[heldExtents-1]; last.Offset != (heldExtents-1)<<13 || last.End() != e.Size {
		t.Errorf("the last is %+v", last)
	}
}

func TestUploadsCountAmongTheHandles(t *testing.T) {
	r := newRig(t, ServerConfig{Handles: 2*uploadHandles + 1})
	c := r.login()
	begin := func(path string) *protocol.Begin {
		return &protocol.Begin{Place: at(path), Size: 5, Chunk: 1 << 20, Origin: "o"}
	}
	ask[*protocol.Begun](c, 1, begin("a"))
	ask[*protocol.Begun](c, 2, begin("b"))
	c.fails(3, begin("c"), protocol.CodeLimit)
	ask[*protocol.OK](c, 4, &protocol.OpenDir{Place: at("."), Handle: 1})
	c.fails(5, &protocol.OpenDir{Place: at("."), Handle: 2}, protocol.CodeLimit)
	ask[*protocol.OK](c, 1, &protocol.Abort{})
	ask[*protocol.Begun](c, 6, begin("c"))
	c.bye()
	if n := r.server.handles.used; n != 0 {
		t.Errorf("%d handles are still counted", n)
	}
}
