package daemon

import "testing"

func TestMemoryIsGivenBackOnceWhenItIsQuiet(t *testing.T) {
	var x tidier
	for i, look := range []struct {
		allocated, spare uint64
		want             bool
	}{
		{100 << 20, 0, false},        // at work
		{900 << 20, 50 << 20, false}, // at work
		{901 << 20, 50 << 20, true},
		{902 << 20, 50 << 20, false}, // done already
		{2000 << 20, 50 << 20, false},
		{2001 << 20, 15 << 20, false}, // not worth it
		{2002 << 20, 16 << 20, true},
	} {
		if got := x.due(look.allocated, look.spare); got != look.want {
			t.Errorf("look %d: %v, want %v", i, got, look.want)
		}
	}
	if allocated, spare := usage(); allocated == 0 || spare > 1<<40 {
		t.Errorf("%d allocated, %d spare", allocated, spare)
	}
}
