package main

import (
	"testing"
	"time"

	"transferd/internal/transfer"
)

func TestEscape(t *testing.T) {
	tests := []struct{ in, want string }{
		{"plain name.txt", "plain name.txt"},
		{"Größe 日本 😀", "Größe 日本 😀"},
		{"a\x1b[2Jb", `a\x1b[2Jb`},
		{"line\nend\ttab", `line\nend\ttab`},
		{"bad \xff\xfe utf8", `bad \xff\xfe utf8`},
		{"right\u202eleft", `right\u202eleft`},
		{"replacement \uFFFD", "replacement \uFFFD"},
		{"nul\x00", `nul\x00`},
		{`back\slash`, `back\slash`},
		{"", ""},
	}
	for _, tt := range tests {
		if got := escape(tt.in); got != tt.want {
			t.Errorf("escape(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestSizeText(t *testing.T) {
	tests := []struct {
		in   int64
		want string
	}{
		{0, "0 B"},
		{1, "1 B"},
		{1023, "1023 B"},
		{1024, "1.00 KiB"},
		{1536, "1.50 KiB"},
		{1 << 20, "1.00 MiB"},
		{20 << 20, "20.0 MiB"},
		{300 << 20, "300 MiB"},
		{1<<40 - 1, "1.00 TiB"},
		{1<<63 - 1, "8.00 EiB"},
	}
	for _, tt := range tests {
		if got := sizeText(tt.in); got != tt.want {
			t.Errorf("sizeText(%d) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestSpanText(t *testing.T) {
	tests := []struct {
		in   time.Duration
		want string
	}{
		{0, "0:00"},
		{7 * time.Second, "0:07"},
		{62500 * time.Millisecond, "1:03"},
		{time.Hour + 2*time.Minute + 3*time.Second, "1:02:03"},
		{51 * time.Hour, "2d 3h"},
	}
	for _, tt := range tests {
		if got := spanText(tt.in); got != tt.want {
			t.Errorf("spanText(%v) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestElide(t *testing.T) {
	tests := []struct {
		in    string
		width int
		want  string
	}{
		{"short", 10, "short"},
		{"exactly10!", 10, "exactly10!"},
		{"directory/with/a/long/name.tif", 12, "dire…ame.tif"},
		{"日本日本日本", 5, "日…本"},
		{"name", 1, "…"},
		{"name", 0, ""},
	}
	for _, tt := range tests {
		got := elide(tt.in, tt.width, columns)
		if got != tt.want {
			t.Errorf("elide(%q, %d) = %q, want %q", tt.in, tt.width, got, tt.want)
		}
		if columns(got) > tt.width {
			t.Errorf("elide(%q, %d) takes %d columns", tt.in, tt.width, columns(got))
		}
	}
}

func FuzzEscape(f *testing.F) {
	f.Add("a\x1b[2Jb\xff")
	f.Fuzz(func(t *testing.T, s string) {
		if got := escape(s); !plain(got) {
			t.Errorf("escape(%q) = %q, which is not plain", s, got)
		}
	})
}

func TestSummaryTellsWhatIsLeft(t *testing.T) {
	t.Parallel()
	sum := transfer.Summary{Files: 2, Failed: 1, Left: 30, Sent: 2048, Duration: 100 * time.Millisecond}
	const want = "2 files copied, 1 failed, 30 not done yet; 2.00 KiB sent in 0:00"
	if got := summaryText(sum, false); got != want {
		t.Errorf("summaryText = %q, want %q", got, want)
	}
}
