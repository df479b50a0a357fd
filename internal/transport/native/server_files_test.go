package native

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"transferd/internal/tree"
	"transferd/protocol"
)

const readWrite = protocol.OpenRead | protocol.OpenWrite | protocol.OpenCreate

// randomBytes returns n bytes that do not compress.
func randomBytes(n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

// readAll gathers the answer to READ.
func (c *raw) readAll(id uint64, m *protocol.Read) (data []byte, last *protocol.Data, encodings []protocol.Encoding) {
	c.t.Helper()
	c.send(id, m)
	var z payloads
	for at := m.Offset; ; {
		d := want[*protocol.Data](c, id)
		if d.Offset != at {
			c.t.Fatalf("DATA at %d, want %d", d.Offset, at)
		}
		piece := make([]byte, d.Length)
		if err := z.unpack(protocol.TypeData, piece, d.Encoding, d.Payload); err != nil {
			c.t.Fatal(err)
		}
		data, encodings = append(data, piece...), append(encodings, d.Encoding)
		at += int64(d.Length)
		if d.Flags&protocol.DataLast != 0 {
			return data, d, encodings
		}
	}
}

func TestServerFileHandles(t *testing.T) {
	r := newRig(t, ServerConfig{})
	c := r.login()
	ask[*protocol.Found](c, 1, &protocol.Open{Place: at("f"), Handle: 9, Flags: readWrite, Perm: 0o644})
	for i := range 50 { // each over half of the one before
		c.send(uint64(100+i), &protocol.Write{Handle: 9, Offset: int64(i * 5), Data: bytes.Repeat([]byte{byte('a' + i%26)}, 10)})
	}
	data, last, _ := c.readBehind(50, &protocol.Read{Handle: 9, Length: 1000})
	if len(data) != 255 || last.Flags&protocol.DataEOF == 0 {
		t.Fatalf("READ gave %d bytes, flags %v", len(data), last.Flags)
	}
	for i := range 50 {
		if data[5*i] != byte('a'+i%26) {
			t.Fatalf("byte %d = %q: writes out of order", 5*i, data[5*i])
		}
	}
	ask[*protocol.OK](c, 2, &protocol.Sync{Handle: 9})
	ask[*protocol.OK](c, 3, &protocol.SetAttrFile{Handle: 9, Attr: protocol.Attr{Set: protocol.AttrSize, Size: 3 << 20}})
	if e := ask[*protocol.Found](c, 4, &protocol.StatFile{Handle: 9}).Entry; e.Size != 3<<20 {
		t.Errorf("size %d", e.Size)
	}
	m := ask[*protocol.Mapped](c, 5, &protocol.Map{Handle: 9, Offset: 100})
	if !m.Last || len(m.Extents) != 1 || m.Extents[0].Offset != 100 || m.Extents[0].Length > 1<<20 {
		t.Errorf("MAPPED %+v", m)
	}
	if m := ask[*protocol.Mapped](c, 6, &protocol.Map{Handle: 9, Offset: 2 << 20}); !m.Last || len(m.Extents) != 0 {
		t.Errorf("MAPPED %+v, want nothing", m)
	}
	ask[*protocol.OK](c, 7, &protocol.Close{Handle: 9})
	for id, m := range map[uint64]protocol.Message{
		20: &protocol.Read{Handle: 9, Length: 1}, 21: &protocol.Write{Handle: 9}, 22: &protocol.Close{Handle: 9},
		23: &protocol.StatFile{Handle: 9}, 24: &protocol.Hash{Handle: 9, Chunk: 1 << 20, Count: 1},
		25: &protocol.Map{Handle: 9}, 26: &protocol.Sync{Handle: 9}, 27: &protocol.SetAttrFile{Handle: 9},
		28: &protocol.Stat{Place: protocol.Place{Dir: 9, Path: "."}}, 29: &protocol.Mkdir{Place: protocol.Place{Dir: 9, Path: "x"}},
	} {
		c.fails(id, m, protocol.CodeClosed)
	}
	c.bye()
}

// readBehind is readAll behind so many OK that have not been read yet, in any
// order.
func (c *raw) readBehind(oks int, m *protocol.Read) ([]byte, *protocol.Data, []protocol.Encoding) {
	c.t.Helper()
	c.send(99, m)
	for range oks {
		if _, m, err := c.next(); err != nil || protocol.TypeOf(m) != protocol.TypeOK {
			c.t.Fatalf("next = %+v, %v, want OK", m, err)
		}
	}
	d := want[*protocol.Data](c, 99)
	return d.Payload, d, []protocol.Encoding{d.Encoding}
}

func TestServerHandleMisuse(t *testing.T) {
	r := newRig(t, ServerConfig{Handles: 20})
	c := r.login()
	ask[*protocol.OK](c, 1, &protocol.Mkdir{Place: at("d"), Perm: 0o755})
	ask[*protocol.Committed](c, 2, putOf("f", "data"))
	ask[*protocol.Found](c, 3, &protocol.Open{Place: at("f"), Handle: 1, Flags: protocol.OpenRead})
	ask[*protocol.Found](c, 4, &protocol.Open{Place: at("f"), Handle: 2, Flags: protocol.OpenWrite})
	ask[*protocol.OK](c, 5, &protocol.OpenDir{Place: at("d"), Handle: 3})
	c.fails(10, &protocol.Write{Handle: 1, Data: []byte("x")}, protocol.CodePermission)
	c.fails(11, &protocol.Read{Handle: 2, Length: 1}, protocol.CodePermission)
	c.fails(12, &protocol.Hash{Handle: 2, Chunk: 1 << 20, Count: 1}, protocol.CodePermission)
	c.fails(13, &protocol.Map{Handle: 2}, protocol.CodePermission)
	c.fails(14, &protocol.Read{Handle: 3, Length: 1}, protocol.CodeClosed)
	c.fails(15, &protocol.SetAttrFile{Handle: 3}, protocol.CodeClosed)
	c.fails(16, &protocol.Mkdir{Place: protocol.Place{Dir: 1, Path: "x"}}, protocol.CodeClosed)
	c.fails(17, &protocol.Open{Place: at("f"), Handle: 1, Flags: protocol.OpenRead}, protocol.CodeBadState)
	c.fails(18, &protocol.OpenDir{Place: at("f"), Handle: 4}, protocol.CodeNotDir)
	c.fails(19, &protocol.Open{Place: at("none"), Handle: 4, Flags: protocol.OpenRead}, protocol.CodeNotFound)
	if e := ask[*protocol.Found](c, 20, &protocol.StatFile{Handle: 3}).Entry; e.Kind != protocol.KindDir {
		t.Errorf("FOUND %+v", e)
	}
	for n := uint32(4); n <= 20; n++ {
		ask[*protocol.OK](c, uint64(100+n), &protocol.OpenDir{Place: at("d"), Handle: n})
	}
	c.fails(21, &protocol.OpenDir{Place: at("d"), Handle: 21}, protocol.CodeLimit)
	c.bye()
	if c := r.login(); ask[*protocol.OK](c, 1, &protocol.OpenDir{Place: at("d"), Handle: 21}) == nil {
		t.Error("the handles of a session that ended are not free again")
	} else {
		c.bye()
	}
}

func TestServerBelowAnOpenDirectory(t *testing.T) {
	r := newRig(t, ServerConfig{})
	c := r.login()
	in := func(path string) protocol.Place { return protocol.Place{Dir: 7, Path: path} }
	// One behind the other, without waiting: the handle works at once.
	c.send(1, &protocol.Mkdir{Place: at("d"), Perm: 0o755})
	c.send(2, &protocol.OpenDir{Place: at("d"), Handle: 7})
	c.send(3, &protocol.Rename{From: at("d"), To: at("e")})
	put := putOf("f", "data")
	put.Dir = 7
	c.send(4, put)
	c.send(5, &protocol.Close{Handle: 7})
	c.send(6, &protocol.Stat{Place: in("f")})
	answers := map[uint64]protocol.Message{}
	for range 6 {
		id, m, err := c.next()
		if err != nil {
			t.Fatal(err)
		}
		answers[id] = m
	}
	for id, wanted := range map[uint64]protocol.Type{
		1: protocol.TypeOK, 2: protocol.TypeOK, 3: protocol.TypeOK, 4: protocol.TypeCommitted, 5: protocol.TypeOK, 6: protocol.TypeFail,
	} {
		if got := protocol.TypeOf(answers[id]); got != wanted {
			t.Errorf("answer to %d = %v %+v, want %v", id, got, answers[id], wanted)
		}
	}
	if got, err := os.ReadFile(filepath.Join(r.dir, "e", "f")); err != nil || string(got) != "data" {
		t.Errorf("e/f = %q, %v", got, err)
	}
	ask[*protocol.OK](c, 10, &protocol.OpenDir{Place: at("e"), Handle: 7})
	ask[*protocol.Found](c, 11, &protocol.Stat{Place: in("f")})
	ask[*protocol.Found](c, 12, &protocol.Open{Place: in("f"), Handle: 8, Flags: protocol.OpenRead})
	if data, _, _ := c.readAll(13, &protocol.Read{Handle: 8, Length: 10}); string(data) != "data" {
		t.Errorf("READ = %q", data)
	}
	ask[*protocol.OK](c, 14, &protocol.Symlink{Place: in("out"), Target: "../../etc/passwd"})
	c.fails(15, &protocol.Get{Place: in("out"), Limit: 1000}, protocol.CodeEscape)
	c.fails(16, &protocol.Rename{From: in("f"), To: at("g")}, protocol.CodeUnsupported)
	c.bye()
}

func TestServerReads(t *testing.T) {
	const chunk = 1 << 20
	data := slices.Concat(randomBytes(chunk), make([]byte, chunk), bytes.Repeat([]byte("abc"), chunk/3))
	r := newRig(t, ServerConfig{})
	sparse, err := os.Create(filepath.Join(r.dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = sparse.Write(data[:chunk])
	if err == nil {
		_, err = sparse.WriteAt(data[2*chunk:], 2*chunk)
	}
	if err == nil {
		err = sparse.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, maxData := range []uint32{protocol.MinData, 100_000, protocol.MaxData} {
		t.Run(fmt.Sprint(maxData), func(t *testing.T) {
			c := r.loginWith(nil, &protocol.Hello{MaxData: maxData, Extensions: []protocol.Extension{{Name: "zstd"}}})
			c.t = t
			ask[*protocol.Found](c, 1, &protocol.Open{Place: at("f"), Handle: 1, Flags: protocol.OpenRead})
			size := int64(len(data))
			var values []protocol.Value
			for i := range tree.ChunkCount(size, chunk) {
				x := tree.ChunkExtent(i, size, chunk)
				wanted := data[x.Offset:x.End()]
				got, last, how := c.readAll(uint64(10+i), &protocol.Read{
					Handle: 1, Offset: x.Offset, Length: uint32(x.Length), Chunk: chunk,
					Flags: protocol.ReadValue | protocol.ReadHoles | protocol.ReadZstd,
				})
				value := tree.ChunkValue(wanted, i, chunk, false)
				values = append(values, protocol.Value(value))
				if !bytes.Equal(got, wanted) || last.Value != value || last.Flags&protocol.DataValue == 0 {
					t.Errorf("chunk %d: %d bytes, flags %v", i, len(got), last.Flags)
				}
				if eof := last.Flags&protocol.DataEOF != 0; eof != (x.End() == size) {
					t.Errorf("chunk %d: eof %v", i, eof)
				}
				if e := [...]protocol.Encoding{protocol.EncodingRaw, protocol.EncodingHole, protocol.EncodingZstd}[i]; how[len(how)-1] != e { // the first may be sent without trying
					t.Errorf("chunk %d came as %v, want %v", i, how, e)
				}
			}
			h := ask[*protocol.Hashed](c, 20, &protocol.Hash{Handle: 1, Chunk: chunk, Count: 100})
			if !slices.Equal(h.Values, values) {
				t.Error("HASHED differs")
			}
			if h := ask[*protocol.Hashed](c, 21, &protocol.Hash{Handle: 1, Chunk: chunk, First: 1 << 40, Count: 1}); len(h.Values) != 0 {
				t.Errorf("HASHED %+v behind the end", h)
			}
			got, last, _ := c.readAll(22, &protocol.Read{Handle: 1, Offset: 100, Length: protocol.MaxRead})
			if !bytes.Equal(got, data[100:]) || last.Flags&protocol.DataEOF == 0 {
				t.Errorf("READ to the end: %d bytes, flags %v", len(got), last.Flags)
			}
			got, last, _ = c.readAll(23, &protocol.Read{Handle: 1, Offset: size + 10, Length: 10})
			if len(got) != 0 || last.Flags&protocol.DataEOF == 0 {
				t.Errorf("READ behind the end: %d bytes, flags %v", len(got), last.Flags)
			}
			if got, _, _ := c.readAll(24, &protocol.Read{Handle: 1, Offset: 5, Length: 0}); len(got) != 0 {
				t.Errorf("READ of nothing: %d bytes", len(got))
			}
			c.fails(25, &protocol.Read{Handle: 1, Offset: 0, Length: 10, Chunk: chunk, Flags: protocol.ReadValue}, protocol.CodeSourceChanged)
			c.bye()
		})
	}
}

func TestServerHashesSmallAndEmptyFiles(t *testing.T) {
	r := newRig(t, ServerConfig{})
	c := r.login()
	for i, size := range []int{0, 1, 1 << 18, 1<<18 + 1, 1 << 20} {
		data, n := randomBytes(size), uint32(i+1)
		if err := os.WriteFile(filepath.Join(r.dir, "f"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		value := tree.ChunkValue(data, 0, 1<<20, true)
		ask[*protocol.Found](c, uint64(10*n), &protocol.Open{Place: at("f"), Handle: n, Flags: protocol.OpenRead})
		h := ask[*protocol.Hashed](c, uint64(10*n+1), &protocol.Hash{Handle: n, Chunk: 1 << 20, Count: 1})
		if len(h.Values) != 1 || h.Values[0] != protocol.Value(value) {
			t.Errorf("%d bytes: HASHED %x", size, h.Values)
		}
		read := &protocol.Read{Handle: n, Length: uint32(size), Flags: protocol.ReadValue, Chunk: 1 << 20}
		if got, last, _ := c.readAll(uint64(10*n+2), read); !bytes.Equal(got, data) || last.Value != value {
			t.Errorf("%d bytes: READ gave %d, value %x", size, len(got), last.Value)
		}
	}
	c.bye()
}

func TestServerListsDeep(t *testing.T) {
	r := newRig(t, ServerConfig{})
	wanted := map[string]bool{}
	for d := range 18 {
		dir := fmt.Sprintf("t/d%d/e", d)
		if err := os.MkdirAll(filepath.Join(r.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		wanted[fmt.Sprintf("d%d", d)], wanted[fmt.Sprintf("d%d/e", d)] = true, true
		for f := range 30 {
			name := fmt.Sprintf("d%d/e/f%d", d, f)
			wanted[name] = true
			if err := os.WriteFile(filepath.Join(r.dir, "t", name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Symlink("..", filepath.Join(r.dir, "t", "loop")); err != nil {
		t.Fatal(err)
	}
	wanted["loop"] = true
	c := r.login()
	c.send(1, &protocol.List{Place: at("t"), Flags: protocol.ListDeep, Frames: 0})
	ask[*protocol.Found](c, 2, &protocol.Stat{Place: at("t")}) // it does not wait for the LIST
	frames, seen := 0, map[string]bool{}
	for last := false; !last; frames++ {
		c.send(1, &protocol.More{Frames: 1})
		m := want[*protocol.Listed](c, 1)
		for _, x := range m.Names {
			if x.Code != 0 || seen[x.Path] || !wanted[x.Path] {
				t.Errorf("LISTED %+v", x)
			}
			if parent := filepath.Dir(x.Path); parent != "." && !seen[parent] {
				t.Errorf("%s comes before its directory", x.Path)
			}
			seen[x.Path] = true
		}
		last = m.Last
	}
	if len(seen) != len(wanted) || frames < 3 {
		t.Errorf("%d names in %d frames, want %d", len(seen), frames, len(wanted))
	}
	c.send(1, &protocol.More{Frames: 1}) // has crossed the last answer
	m := ask[*protocol.Listed](c, 3, &protocol.List{Place: at("t"), Frames: 10})
	if len(m.Names) != 19 || !m.Last {
		t.Errorf("LISTED %d names", len(m.Names))
	}
	c.fails(4, &protocol.List{Place: at("t/d1/e/f1"), Frames: 10}, protocol.CodeNotDir)
	c.send(5, &protocol.List{Place: at("t"), Flags: protocol.ListDeep, Frames: 0})
	c.fails(5, &protocol.Cancel{}, protocol.CodeCancelled)
	c.bye()
}

func TestServerTellsExtendedAttributes(t *testing.T) {
	r := newRig(t, ServerConfig{})
	c := r.login()
	x := []protocol.Xattr{{Name: "user.colour", Value: []byte("red")}}
	put := putOf("f", "data")
	put.Attr = protocol.Attr{Set: protocol.AttrXattrs, Xattrs: x}
	c.send(1, put)
	_, m, err := c.next()
	if err != nil {
		t.Fatal(err)
	}
	if f, ok := m.(*protocol.Fail); ok && f.Code == protocol.CodeUnsupported {
		t.Skip("the filesystem has no extended attributes")
	}
	ask[*protocol.OK](c, 2, &protocol.Symlink{Place: at("l"), Target: "f"})
	e := ask[*protocol.Found](c, 3, &protocol.Stat{Place: at("f"), Flags: protocol.StatXattrs}).Entry
	if len(e.Xattrs) != 1 || string(e.Xattrs[0].Value) != "red" {
		t.Errorf("FOUND %+v", e)
	}
	l := ask[*protocol.Listed](c, 4, &protocol.List{Place: at("."), Flags: protocol.StatXattrs, Frames: 1})
	for _, n := range l.Names {
		if n.Code != 0 || (n.Path == "f") != (len(n.Entry.Xattrs) == 1) {
			t.Errorf("LISTED %+v", n)
		}
	}
	c.fails(5, &protocol.Stat{Place: at("l"), Flags: protocol.StatXattrs | protocol.StatFollow}, protocol.CodeUnsupported)
	c.bye()
}
