package transfer

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"transferd/internal/tree"
)

func TestNamesKeepWhatTheyWereGiven(t *testing.T) {
	var n names
	entry := func(i int) tree.Entry {
		e := tree.Entry{
			Name: fmt.Sprintf("%d-%s", i, strings.Repeat("x", i%300)), Kind: tree.Kind(i % 8), Size: int64(i) << 30,
			Perm: tree.Perm(i) & tree.PermMask, Mtime: time.Unix(int64(i)*1e7-1e9, int64(i)),
		}
		if e.Kind == tree.KindSymlink {
			e.Link = fmt.Sprint("to ", i)
		}
		return e
	}
	const many = 5000
	for i := range many {
		if n.get(entry(i).Name) != nil || n.has(entry(i).Name) {
			t.Fatalf("%d is there before it was added", i)
		}
		n.add(tree.Entry{Name: entry(i).Name, Kind: tree.KindSymlink, Link: "old", Mtime: time.Unix(-5, 0)})
		n.add(entry(i))
	}
	for i := range many {
		want := entry(i)
		got := n.get(want.Name)
		if got == nil || !n.has(want.Name) {
			t.Fatalf("%d is missing", i)
		}
		if !got.Mtime.Equal(want.Mtime) {
			t.Errorf("mtime %v, want %v", got.Mtime, want.Mtime)
		}
		got.Mtime = want.Mtime
		if *got != want {
			t.Errorf("got %+v, want %+v", *got, want)
		}
	}
	if n.partials {
		t.Error("there are partials, want none")
	}
	n.add(tree.Entry{Name: tree.PartialName("a", "b") + ".part"})
	if !n.partials {
		t.Error("a partial was not noticed")
	}
	var none *names
	if none.get("a") != nil || none.has("a") {
		t.Error("no names hold a name")
	}
}

func TestNamesAreSmall(t *testing.T) {
	const many = 200_000
	var n names
	var before, after runtime.MemStats
	runtime.GC()
	runtime.GC() // pools keep what they hold over one
	runtime.ReadMemStats(&before)
	for i := range many {
		n.add(tree.Entry{Name: fmt.Sprintf("file%07d.dat", i), Mtime: moment(i), Size: 4096, Kind: tree.KindFile})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(&n)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 64*many {
		t.Errorf("%d entries take %d bytes with their names, want at most 64 each", many, grown)
	}
}

func TestNameLog(t *testing.T) {
	var log nameLog
	if log.index() != nil {
		t.Error("an empty log has an index")
	}
	const many = 5000
	for i := range many {
		log.add(strings.Repeat("y", i%257) + fmt.Sprint(i))
	}
	index := log.index()
	for i := range many {
		if !index.has(strings.Repeat("y", i%257) + fmt.Sprint(i)) {
			t.Fatalf("%d is missing", i)
		}
	}
	if index.count != many {
		t.Errorf("%d names, want %d", index.count, many)
	}
}
