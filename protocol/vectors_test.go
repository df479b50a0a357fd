package protocol

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata/valid.txt anew")

// readVectors returns the lines of a table in testdata as their columns. Lines
// that begin with # are comments; spaces between digits do not count.
func readVectors(t testing.TB, file string, columns int) [][]string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		row := strings.Split(line, "|")
		if len(row) != columns {
			t.Fatalf("%s: %q has %d columns, want %d", file, line, len(row), columns)
		}
		for i := range row {
			row[i] = strings.TrimSpace(row[i])
		}
		rows = append(rows, row)
	}
	return rows
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// read takes one frame from b, which must hold nothing else.
func read(b []byte) (Header, Message, error) {
	r := NewReader(bytes.NewReader(b), MaxFrame)
	h, err := r.Next()
	if err != nil {
		return h, nil, err
	}
	body, err := r.Body(nil)
	if err != nil {
		return h, nil, err
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		return h, nil, fmt.Errorf("behind the frame: %w", err)
	}
	m, err := Decode(h.Type, body)
	return h, m, err
}

func TestValidVectors(t *testing.T) {
	samples := sampleMessages()
	if *update {
		var b strings.Builder
		b.WriteString("# One frame a line: name | id | frame. The messages are in samples_test.go.\n")
		for _, s := range samples {
			frame, err := Append(nil, s.id, s.m)
			if err != nil {
				t.Fatalf("%s: %v", s.name, err)
			}
			fmt.Fprintf(&b, "%s | %d | %x\n", s.name, s.id, frame)
		}
		if err := os.WriteFile("testdata/valid.txt", []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	rows := readVectors(t, "valid.txt", 3)
	if len(rows) != len(samples) {
		t.Fatalf("valid.txt has %d vectors, samples_test.go %d messages", len(rows), len(samples))
	}
	seen := map[Type]bool{}
	for i, s := range samples {
		t.Run(s.name, func(t *testing.T) {
			if rows[i][0] != s.name || rows[i][1] != fmt.Sprint(s.id) {
				t.Fatalf("vector %d is %v, want %s | %d", i, rows[i][:2], s.name, s.id)
			}
			if !strings.HasPrefix(s.name, s.m.kind().String()) {
				t.Errorf("a %v is called %s", s.m.kind(), s.name)
			}
			seen[s.m.kind()] = true
			want := unhex(t, rows[i][2])
			got, err := Append([]byte("before"), s.id, s.m)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, append([]byte("before"), want...)) {
				t.Errorf("Append = %x, want %x", got[6:], want)
			}
			h, m, err := read(want)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(s.m, m); h.ID != s.id || d != "" {
				t.Errorf("id %d, want %d; message (-want +got):\n%s", h.ID, s.id, d)
			}
			for n := range len(want) {
				if _, _, err := read(want[:n]); err == nil {
					t.Errorf("the first %d of %d bytes are a frame as well", n, len(want))
				}
			}
		})
	}
	for i := range types {
		if typ := Type(i); typ.Known() && !seen[typ] {
			t.Errorf("no vector has a %v", typ)
		}
	}
}

// TestBodiesCutShort takes bytes off the end of each vector's body and makes the
// header say so: only a payload may be shorter.
func TestBodiesCutShort(t *testing.T) {
	for _, s := range sampleMessages() {
		frame, err := Append(nil, s.id, s.m)
		if err != nil {
			t.Fatal(err)
		}
		body := frame[HeaderSize:]
		fields := s.m.kind().Fields()
		open := len(fields) > 0 && fields[len(fields)-1].Type == "rest"
		for n := range len(body) {
			m, err := Decode(s.m.kind(), body[:n])
			var e *Error
			if err == nil && open {
				again, err := Append(nil, s.id, m)
				if err != nil || !bytes.Equal(again[HeaderSize:], body[:n]) {
					t.Errorf("%s cut to %d bytes is %x again, %v", s.name, n, again, err)
				}
			} else if !errors.As(err, &e) || e.Type != s.m.kind() {
				t.Errorf("%s cut to %d bytes: %v, want an Error", s.name, n, err)
			}
		}
		if _, err := Decode(s.m.kind(), append(bytes.Clone(body), 0)); err == nil && !open {
			t.Errorf("%s with a byte behind it is decoded", s.name)
		}
	}
}

func TestInvalidVectors(t *testing.T) {
	for _, row := range readVectors(t, "invalid.txt", 3) {
		t.Run(row[0], func(t *testing.T) {
			_, m, err := read(unhex(t, row[2]))
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != row[1] {
				t.Errorf("%+v, %q, want %q", m, got, row[1])
			}
		})
	}
}

// TestInvalidIsNotEncodedEither makes of each valid message one that must be
// refused, as its counterpart in invalid.txt is.
func TestInvalidIsNotEncodedEither(t *testing.T) {
	long := strings.Repeat("x", MaxPath+1)
	for _, test := range []struct {
		m    Message
		want Error
	}{
		{&Stat{Place: Place{Path: ""}}, Error{CodeBadPath, TypeStat, "path"}},
		{&Stat{Place: Place{Path: "a/../b"}}, Error{CodeBadPath, TypeStat, "path"}},
		{&Stat{Place: Place{Path: long}}, Error{CodeTooLarge, TypeStat, "path"}},
		{&Stat{Place: Place{Path: "a"}, Flags: 0x80}, Error{CodeBadMessage, TypeStat, "flags"}},
		{&Open{Place: Place{Path: "a"}}, Error{CodeBadMessage, TypeOpen, "handle"}},
		{&Mkdir{Place: Place{Path: "a"}, Perm: 0o10000}, Error{CodeBadMessage, TypeMkdir, "perm"}},
		{&Rename{From: Place{Path: "a"}, To: Place{Path: "b"}, Mode: 2}, Error{CodeBadMessage, TypeRename, "mode"}},
		{&Read{Handle: 1, Offset: -1}, Error{CodeBadMessage, TypeRead, "offset"}},
		{&Read{Handle: 1, Length: MaxRead + 1}, Error{CodeTooLarge, TypeRead, "length"}},
		{&Write{Handle: 1, Data: make([]byte, MaxData+1)}, Error{CodeTooLarge, TypeWrite, "data"}},
		{&Data{Length: 1}, Error{CodeBadMessage, TypeData, "payload"}},
		{&Hello{MaxData: MinData - 1}, Error{CodeBadMessage, TypeHello, "max_data"}},
		{&Hello{MaxData: MinData, Algorithms: make([]string, MaxAlgorithms+1)}, Error{CodeTooLarge, TypeHello, "algorithms"}},
		{&HostProof{Key: make([]byte, MaxBlob+1)}, Error{CodeTooLarge, TypeHostProof, "key"}},
		{&Put{Place: Place{Path: "a"}, Size: 2, Data: []byte{1}}, Error{CodeBadMessage, TypePut, "data"}},
		{&Begin{Place: Place{Path: "a"}, Chunk: MinChunk + 1}, Error{CodeBadMessage, TypeBegin, "chunk"}},
	} {
		got, err := Append([]byte("kept"), 1, test.m)
		var e *Error
		if !errors.As(err, &e) || *e != test.want || string(got) != "kept" {
			t.Errorf("Append(%T) = %q, %v, want %v", test.m, got, err, &test.want)
		}
	}
}
