package transfer

import (
	"testing"

	"transferd/internal/tree"
)

func TestFilter(t *testing.T) {
	for _, tt := range []struct {
		name             string
		include, exclude []string
		path             tree.Path
		dir              bool
		want             bool
	}{
		{"nothing set", nil, nil, "a/b", false, true},
		{"excluded name anywhere", nil, []string{"*.tmp"}, "a/b.tmp", false, false},
		{"excluded path", nil, []string{"a/*.tmp"}, "a/b.tmp", false, false},
		{"excluded path elsewhere", nil, []string{"a/*.tmp"}, "c/b.tmp", false, true},
		{"anchored at the operand", nil, []string{"/b"}, "b", false, false},
		{"anchored, not below", nil, []string{"/b"}, "a/b", false, true},
		{"any depth", nil, []string{"**/cache/**"}, "x/y/cache/z", false, false},
		{"excluded directory", nil, []string{"build/"}, "build", true, false},
		{"included file", []string{"*.tif"}, nil, "a/b.tif", false, true},
		{"not included file", []string{"*.tif"}, nil, "a/b.txt", false, false},
		{"directories are entered", []string{"*.tif"}, nil, "a", true, true},
		{"exclude wins", []string{"*.tif"}, []string{"bad*"}, "bad.tif", false, false},
	} {
		f, err := newFilter(tt.include, tt.exclude)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.keeps(tt.path, tt.dir); got != tt.want {
			t.Errorf("%s: keeps(%q) = %v, want %v", tt.name, tt.path, got, tt.want)
		}
	}
	if _, err := newFilter([]string{"["}, nil); err == nil {
		t.Error("newFilter accepts a bad pattern")
	}
}
