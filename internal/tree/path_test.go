package tree

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestParsePath(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", "."},
		{".", "."},
		{"/", "."},
		{"a", "a"},
		{"/a/b", "a/b"},
		{"a//b/", "a/b"},
		{"./a/./b", "a/b"},
		{"a/../b", "b"},
		{"../../etc/passwd", "etc/passwd"},
		{"/a/../..", "."},
		{"...", "..."},
		{"a/..b", "a/..b"},
		{"new\nline/\xff", "new\nline/\xff"},
		{" ", " "},
	} {
		got, err := ParsePath(tt.in)
		if err != nil || got != Path(tt.want) {
			t.Errorf("ParsePath(%q) = %q, %v, want %q", tt.in, got, err, tt.want)
		}
	}
	if _, err := ParsePath("a\x00b"); !errors.Is(err, ErrBadPath) {
		t.Errorf("ParsePath with NUL = %v, want ErrBadPath", err)
	}
}

func FuzzParsePath(f *testing.F) {
	f.Add("a/../../b//.")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePath(s)
		if err != nil {
			return
		}
		if again, err := ParsePath(string(p)); err != nil || again != p {
			t.Fatalf("ParsePath(%q) = %q, which parses to %q, %v", s, p, again, err)
		}
		if p == Root {
			return
		}
		for elem := range strings.SplitSeq(string(p), "/") {
			if err := CheckName(elem); err != nil {
				t.Fatalf("ParsePath(%q) = %q: %v", s, p, err)
			}
		}
	})
}

func TestPathParts(t *testing.T) {
	for _, tt := range []struct{ p, parent, base string }{
		{".", ".", "."}, {"a", ".", "a"}, {"a/b", "a", "b"}, {"a/b/c", "a/b", "c"},
	} {
		p := Path(tt.p)
		if p.Parent() != Path(tt.parent) || p.Base() != tt.base {
			t.Errorf("%q has parent %q and base %q, want %q and %q", p, p.Parent(), p.Base(), tt.parent, tt.base)
		}
		if p != Root && p.Parent().Join(p.Base()) != p {
			t.Errorf("%q is not its parent joined with its base", p)
		}
		if Root.Append(p) != p || p.Append(Root) != p {
			t.Errorf("%q appended to or by the root is not itself", p)
		}
	}
}

func TestPartialNames(t *testing.T) {
	name := PartialName("machine/src", strings.Repeat("x", 255))
	const want = ".transfer-7ffec3b8dbd9b65ff4a6d7aa0f4b3ce9"
	if len(name) != len(want) || len(name+".journal") > 255 {
		t.Errorf("PartialName = %q", name)
	}
	if PartialName("a", "b") == PartialName("a", "c") || PartialName("a", "b") == PartialName("c", "b") {
		t.Error("different copies share a partial")
	}
	for suffix, want := range map[string]bool{".part": true, ".journal": true, ".dir": true, "": false, ".txt": false} {
		if got := IsPartialName(name + suffix); got != want {
			t.Errorf("IsPartialName(%q) = %v, want %v", name+suffix, got, want)
		}
	}
	for _, other := range []string{"transfer", ".transfer-", ".transfer-zz", ".transfer-" + strings.Repeat("z", 32) + ".part"} {
		if IsPartialName(other) {
			t.Errorf("IsPartialName(%q) = true", other)
		}
	}
}

func TestSameTimeCutsToTheCoarserGrain(t *testing.T) {
	at := time.Unix(1_700_000_000, 999_999_999)
	for _, tt := range []struct {
		b     time.Time
		grain time.Duration
		want  bool
	}{
		{at, time.Nanosecond, true},
		{time.Unix(1_700_000_000, 0), time.Nanosecond, false},
		{time.Unix(1_700_000_000, 0), time.Second, true},
		{time.Unix(1_700_000_001, 0), time.Second, false},
		{time.Unix(1_700_000_000, 999_000_000), 100 * time.Millisecond, true},
	} {
		if got := SameTime(at, tt.b, tt.grain); got != tt.want {
			t.Errorf("SameTime(%v, %v, %v) = %v, want %v", at, tt.b, tt.grain, got, tt.want)
		}
	}
	// Before 1970 as well: Truncate works on absolute time, Unix rounds down.
	if !SameTime(time.Unix(-5, 700), time.Unix(-5, 0), time.Second) {
		t.Error("SameTime is wrong before 1970")
	}
}

func TestChunkGeometry(t *testing.T) {
	for _, tt := range []struct{ size, chunk, count int64 }{
		{-1, MinChunkSize, 1},
		{0, MinChunkSize, 1},
		{1, MinChunkSize, 1},
		{MinChunkSize, MinChunkSize, 1},
		{MinChunkSize + 1, MinChunkSize, 2},
		{64 << 30, 2 << 20, 32 << 10},
		{400 << 30, MaxChunkSize, 100 << 10},
		{1 << 50, MaxChunkSize, 1 << 28},
	} {
		chunk := ChunkSizeFor(tt.size)
		if chunk != tt.chunk || ChunkCount(tt.size, chunk) != tt.count {
			t.Errorf("size %d: chunks of %d, %d of them; want %d, %d", tt.size, chunk, ChunkCount(tt.size, chunk), tt.chunk, tt.count)
		}
	}
}
