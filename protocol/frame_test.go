package protocol

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func mustAppend(t testing.TB, b []byte, id uint64, m Message) []byte {
	t.Helper()
	b, err := Append(b, id, m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReaderSkipsWhatWasNotRead(t *testing.T) {
	write := &Write{Handle: 1, Data: bytes.Repeat([]byte("x"), 200<<10)}
	stream := mustAppend(t, nil, 1, write)
	stream = mustAppend(t, stream, 2, &OK{})
	stream = mustAppend(t, stream, 3, write)
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"at once":   func(r io.Reader) io.Reader { return r },
		"by bytes":  iotest.OneByteReader,
		"with EOF":  iotest.DataErrReader,
		"in halves": iotest.HalfReader,
	} {
		t.Run(name, func(t *testing.T) {
			r := NewReader(wrap(bytes.NewReader(stream)), MaxFrame)
			var ids []uint64
			for {
				h, err := r.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				ids = append(ids, h.ID)
				if h.ID != 3 {
					continue
				}
				body, err := r.Body(nil)
				if err != nil {
					t.Fatal(err)
				}
				m, err := Decode(h.Type, body)
				if d := cmp.Diff(Message(write), m); err != nil || d != "" {
					t.Errorf("%v, message (-want +got):\n%s", err, d)
				}
			}
			if d := cmp.Diff([]uint64{1, 2, 3}, ids); d != "" {
				t.Errorf("ids (-want +got):\n%s", d)
			}
		})
	}
}

func TestLimitOfTheHandshakeIsLifted(t *testing.T) {
	large := mustAppend(t, nil, 1, &Write{Handle: 1, Data: make([]byte, MaxHandshakeFrame)})
	r := NewReader(bytes.NewReader(large), MaxHandshakeFrame)
	var e *Error
	if _, err := r.Next(); !errors.As(err, &e) || e.Code != CodeTooLarge {
		t.Errorf("Next = %v, want TOO_LARGE", err)
	}
	r = NewReader(bytes.NewReader(large), MaxHandshakeFrame)
	r.SetLimit(MaxFrame)
	if _, err := r.Next(); err != nil {
		t.Error(err)
	}
}

// TestAnnouncedIsNotAllocated makes sure that a length on the wire costs nothing
// before its bytes are there, or its limit was looked at.
func TestAnnouncedIsNotAllocated(t *testing.T) {
	allocated := func(f func()) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	header := appendHeader(nil, Header{Length: MaxFrame, Type: TypeWrite, ID: 1})
	if n := allocated(func() {
		r := NewReader(bytes.NewReader(header), MaxFrame)
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Body(nil); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("Body = %v, want %v", err, io.ErrUnexpectedEOF)
		}
	}); n > 4*step {
		t.Errorf("a header alone made %d bytes", n)
	}
	for _, row := range readVectors(t, "invalid.txt", 3) {
		frame := unhex(t, row[2])
		if n := allocated(func() { _, _, _ = read(frame) }); n > 4*step {
			t.Errorf("%s: %d bytes were allocated", row[0], n)
		}
	}
}

// TestLargeIsRefused has what would be too long for a line of invalid.txt.
func TestLargeIsRefused(t *testing.T) {
	for _, test := range []struct {
		name string
		typ  Type
		body []byte
		want string
	}{
		{"payload", TypeData, make([]byte, DataSize+MaxData+1), "DATA, field payload: TOO_LARGE"},
		{"write", TypeWrite, append([]byte{0, 0, 0, 1}, make([]byte, 8+MaxData+1)...), "WRITE, field data: TOO_LARGE"},
		{"extension", TypeExtended, make([]byte, MaxData+1), "EXTENDED, field body: TOO_LARGE"},
	} {
		if _, err := Decode(test.typ, test.body); err == nil || err.Error() != test.want {
			t.Errorf("%s: %v, want %s", test.name, err, test.want)
		}
	}
	r := NewReader(bytes.NewReader(append(appendHeader(nil, Header{Type: TypeData, Length: DataSize + MaxData + 1}), make([]byte, DataSize+MaxData+1)...)), MaxFrame)
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	var d Data
	if err := r.Data(&d); err == nil || err.Error() != "DATA, field payload: TOO_LARGE" {
		t.Errorf("Data = %v, want TOO_LARGE", err)
	}
	many := &Listed{Names: make([]Listing, MaxEntries)}
	for i := range many.Names {
		many.Names[i] = Listing{Path: strings.Repeat("x", 300)}
	}
	if _, err := Append(nil, 1, many); err == nil || err.Error() != "LISTED: TOO_LARGE" {
		t.Errorf("Append of more than a frame = %v, want TOO_LARGE", err)
	}
}

func TestListsKnowTheirLeastElement(t *testing.T) {
	size := func(fields func(*codec)) int {
		c := codec{mode: encoding}
		fields(&c)
		return len(c.b)
	}
	if got := size((&Entry{}).fields); got != entryLeast {
		t.Errorf("an empty Entry is %d bytes, entryLeast %d", got, entryLeast)
	}
	// The others stand in the calls of list.
	for name, sizes := range map[string][2]int{
		"listing":   {size((&Listing{Path: "."}).fields), 5 + entryLeast},
		"xattr":     {size((&Xattr{}).fields), 6},
		"extension": {size((&Extension{}).fields), 6},
		"extent":    {size((&Extent{Length: 1}).fields), 16},
		"range":     {size((&Range{Count: 1}).fields), 16},
		"value":     {size((&Value{}).fields), 32},
	} {
		if sizes[0] != sizes[1] {
			t.Errorf("the least %s is %d bytes, want %d", name, sizes[0], sizes[1])
		}
	}
}

func TestReadPreface(t *testing.T) {
	for _, test := range []struct {
		name, in, rest string
		noise          int
		ok             bool
	}{
		{"alone", Preface, "", 0, true},
		{"with a frame behind it", Preface + "frame", "frame", 0, true},
		{"behind a shell's greeting", "Last login: today\r\n" + Preface + "f", "f", 100, true},
		{"behind as much as may be", "12345" + Preface, "", 5, true},
		{"behind its own beginning", "\x89trans\x89\x89transfer/1\r" + Preface + "f", "f", 100, true},
		{"behind too much", "123456" + Preface, "", 5, false},
		{"with line ends changed", strings.ReplaceAll(Preface, "\r\n", "\n") + "more", "", 0, false},
		{"of another protocol", "SSH-2.0-OpenSSH_9.2\r\n", "", 0, false},
		{"of a later version", "\x89transfer/2\r\n", "", 0, false},
		{"cut short", Preface[:12], "", 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := strings.NewReader(test.in)
			err := ReadPreface(r, test.noise)
			if (err == nil) != test.ok {
				t.Fatalf("ReadPreface(%q) = %v, want ok: %v", test.in, err, test.ok)
			}
			rest, _ := io.ReadAll(r)
			if test.ok && string(rest) != test.rest {
				t.Errorf("behind the preface is %q, want %q", rest, test.rest)
			}
		})
	}
}

func FuzzReadPreface(f *testing.F) {
	f.Add([]byte("noise" + Preface + "rest"))
	f.Fuzz(func(t *testing.T, b []byte) {
		at := bytes.Index(b, []byte(Preface))
		r := bytes.NewReader(b)
		if err := ReadPreface(r, len(b)); (err == nil) != (at >= 0) {
			t.Fatalf("ReadPreface = %v, but the preface is at %d", err, at)
		}
		if want := len(b) - at - len(Preface); at >= 0 && r.Len() != want {
			t.Errorf("%d bytes are left, want %d", r.Len(), want)
		}
	})
}

// FuzzFrame: what is decoded is encoded to the same bytes, and what is refused
// is refused with a code.
func FuzzFrame(f *testing.F) {
	for _, s := range sampleMessages() {
		f.Add(mustAppend(f, nil, s.id, s.m))
	}
	for _, row := range readVectors(f, "invalid.txt", 3) {
		f.Add(unhex(f, row[2]))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(bytes.NewReader(b), MaxFrame)
		h, err := r.Next()
		if err != nil {
			return
		}
		body, err := r.Body(nil)
		if err != nil {
			return
		}
		m, err := Decode(h.Type, body)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Code == 0 || e.Type != h.Type {
				t.Fatalf("Decode = %#v, want an Error with code and type", err)
			}
			return
		}
		again, err := Append(nil, h.ID, m)
		if err != nil || !bytes.Equal(again, b[:HeaderSize+len(body)]) {
			t.Fatalf("%+v was %x, is %x, %v", m, b[:HeaderSize+len(body)], again, err)
		}
	})
}
