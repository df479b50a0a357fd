package protocol

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"lukechampine.com/blake3"
)

// A turn is one frame of the document's example.
type turn struct {
	from string
	id   uint64
	m    Message
}

func example() []turn {
	const small, large = "hello\n", "larger\n"
	smallSum, largeSum := blake3.Sum256([]byte(small)), blake3.Sum256([]byte(large))
	attr := Attr{Set: AttrPerm | AttrMtime, Perm: 0o644, Mtime: 1700000000000000000}
	return []turn{
		{"client", 0, &Hello{MinVersion: 1, MaxVersion: 1, Nonce: fill32(0), MaxData: MaxData, Software: "example"}},
		{"server", 0, &ServerHello{Version: 1, Nonce: fill32(0x20), MaxData: MaxData, Software: "example"}},
		{"server", 0, &Welcome{
			Session: [16]byte(fill(0x40, 16)), Secret: fill32(0x50), Binding: BindingSSH, Flags: WelcomeConfined,
			User: "lab", Home: ".", Streams: 8, Operations: 1024, Handles: 256, Inline: MaxInline, Window: 96 << 20,
		}},
		{"client", 1, &Mkdir{Place: Place{Path: "d"}, Perm: 0o755}},
		{"client", 2, &Put{Place: Place{Path: "d/small"}, Origin: "m:/small", Attr: attr, Size: int64(len(small)), Digest: smallSum, Data: []byte(small)}},
		{"client", 3, &Begin{
			Place: Place{Path: "d/large"}, Flags: UploadResume, Size: int64(len(large)), Chunk: MinChunk,
			Source: Identity{Size: int64(len(large)), Mtime: attr.Mtime}, Origin: "m:/large",
		}},
		{"client", 3, &Data{Length: uint32(len(large)), Flags: DataLast | DataValue, Value: largeSum, Payload: []byte(large)}},
		{"client", 3, &Commit{Size: int64(len(large)), Sent: 1, Values: sha256.Sum256(largeSum[:]), HasDigest: true, Digest: largeSum, Attr: attr}},
		{"server", 1, &OK{}},
		{"server", 3, &Begun{Window: 96 << 20, Expiry: 604800}},
		{"server", 2, &Committed{}},
		{"server", 3, &Committed{}},
		{"client", 4, &Stat{Place: Place{Path: "d/none"}}},
		{"server", 4, &Fail{Code: CodeNotFound, Message: "d/none: not found"}},
		{"client", 0, &Goodbye{Code: CodeDone}},
	}
}

func render(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	lines := func(p []byte) {
		for len(p) > 0 {
			n := min(len(p), 40)
			b.WriteString("  " + hex.EncodeToString(p[:n]) + "\n")
			p = p[n:]
		}
	}
	b.WriteString("both    preface\n")
	lines([]byte(Preface))
	for _, s := range example() {
		frame := mustAppend(t, nil, s.id, s.m)
		b.WriteString(s.from + "  " + s.m.kind().String() + "\n")
		lines(frame[:HeaderSize])
		lines(frame[HeaderSize:])
	}
	return b.String()
}

func TestDocumentsExample(t *testing.T) {
	const open, end = "```example\n", "```\n"
	doc := readDoc(t)
	start := strings.Index(doc, open)
	if start < 0 {
		t.Fatal("the document has no example")
	}
	start += len(open)
	length := strings.Index(doc[start:], end)
	if *update {
		doc = doc[:start] + render(t) + doc[start+length:]
		if err := os.WriteFile(docPath, []byte(doc), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	text := doc[start : start+length]
	if d := cmp.Diff(render(t), text); d != "" {
		t.Errorf("the example (-code +document):\n%s", d)
	}

	// Read it as somebody would who has nothing but the text.
	streams := map[string]*bytes.Buffer{"client": {}, "server": {}}
	var now []*bytes.Buffer
	for line := range strings.Lines(text) {
		digits, ok := strings.CutPrefix(line, "  ")
		from, _, _ := strings.Cut(line, " ")
		switch {
		case ok:
			for _, s := range now {
				s.Write(unhex(t, strings.TrimSpace(digits)))
			}
		case from == "both":
			now = []*bytes.Buffer{streams["client"], streams["server"]}
		default:
			now = []*bytes.Buffer{streams[from]}
		}
	}
	readers := map[string]*Reader{}
	for who, s := range streams {
		if err := ReadPreface(s, 0); err != nil {
			t.Fatalf("%s: %v", who, err)
		}
		readers[who] = NewReader(s, MaxFrame)
	}
	for _, want := range example() {
		h, err := readers[want.from].Next()
		if err != nil {
			t.Fatal(err)
		}
		body, err := readers[want.from].Body(nil)
		if err != nil {
			t.Fatal(err)
		}
		m, err := Decode(h.Type, body)
		if d := cmp.Diff(want.m, m); err != nil || h.ID != want.id || d != "" {
			t.Errorf("id %d, want %d; %v; message (-want +got):\n%s", h.ID, want.id, err, d)
		}
	}
}
