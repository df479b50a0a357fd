//go:build unix

package transfer

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"transferd/internal/tree"
)

// linked makes hard links of dir/d/a/one to names in several directories.
func linked(t *testing.T, dir string, size int) []string {
	t.Helper()
	write(t, dir, "d/a/one", bytesOf(7, size))
	names := []string{"d/a/one"}
	for _, name := range []string{"d/a/two", "d/b/three", "d/z/y/four"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(filepath.Join(dir, "d/a/one"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	write(t, dir, "d/other", bytesOf(7, size))
	return names
}

// wantLinked fails unless the names below dir are one file.
func wantLinked(t *testing.T, dir string, names ...string) {
	t.Helper()
	first, err := os.Stat(filepath.Join(dir, names[0]))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names[1:] {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || !os.SameFile(first, info) {
			t.Errorf("%s is not %s: %v", name, names[0], err)
		}
	}
}

func withLinks() Options {
	o := options()
	o.Preserve.Links = true
	return o
}

func copyName(name string) string { return "D" + name[1:] }

func TestNamesOfOneFileAreCopiedOnce(t *testing.T) {
	for _, end := range ends {
		if !end.able {
			continue
		}
		for _, size := range []int{0, 5000, 3*mib + 1} {
			b := newBench(t).as(end)
			names := linked(t, b.src, size)
			copies := make([]string, len(names))
			for i, name := range names {
				copies[i] = copyName(name)
			}
			o := withLinks()
			sum := b.must(o, "d", "D")
			if sum.Files != 5 || sum.Sent != 2*int64(size) {
				t.Errorf("%s: %+v, want 5 files and two contents", end.name, sum)
			}
			wantLinked(t, b.dst, copies...)
			wantAlike(t, filepath.Join(b.src, "d"), filepath.Join(b.dst, "D"), end.grain)
			wantNoRest(t, b.dst)
			b.wantExactEvents()
			o.NoTargetDir = true

			// A second run leaves them alone.
			b.heal()
			if sum := b.must(o, "d", "D"); sum.Files != 0 || sum.Skipped != 5 {
				t.Errorf("%s: a second run: %+v, want all skipped", end.name, sum)
			}
			wantLinked(t, b.dst, copies...)

			// One name is gone: it is made again.
			b.heal()
			if err := os.Remove(filepath.Join(b.dst, copies[2])); err != nil {
				t.Fatal(err)
			}
			// If it is met first, it gets contents of its own and the others follow.
			if sum := b.must(o, "d", "D"); sum.Files != 1 && sum.Files != 4 || sum.Files == 1 && sum.Sent != 0 {
				t.Errorf("%s: with one name gone: %+v", end.name, sum)
			}
			wantLinked(t, b.dst, copies...)

			// The contents are new: all names get them, and are one again.
			b.heal()
			if err := os.WriteFile(filepath.Join(b.src, names[0]), bytesOf(9, size+1), 0o644); err != nil {
				t.Fatal(err)
			}
			if sum := b.must(o, "d", "D"); sum.Files != 4 || sum.Sent != int64(size)+1 {
				t.Errorf("%s: with new contents: %+v, want 4 files of one content", end.name, sum)
			}
			wantLinked(t, b.dst, copies...)
			wantAlike(t, filepath.Join(b.src, "d"), filepath.Join(b.dst, "D"), end.grain)
			wantNoRest(t, b.dst)
		}
	}
}

func TestNamesAreCopiedOneByOneWhereNoLinkCanBeMade(t *testing.T) {
	for _, cause := range []error{errors.ErrUnsupported, os.ErrPermission, nil} {
		b := newBench(t).as(end{able: true})
		linked(t, b.src, 5000)
		o := withLinks()
		if cause == nil {
			b = newBench(t) // no Linker
			linked(t, b.src, 5000)
		}
		b.to.at = func(c call) fault {
			if c.op == "link" {
				return fault{before: cause}
			}
			return fault{}
		}
		if sum := b.must(o, "d", "D"); sum.Files != 5 || sum.Sent != 5*5000 {
			t.Errorf("%v: %+v, want 5 files of 5000 bytes", cause, sum)
		}
		if hints := len(told[Hint](&b.log)); hints > 1 || (hints == 1) != errors.Is(cause, errors.ErrUnsupported) {
			t.Errorf("%v: told %d hints", cause, hints)
		}
		wantAlike(t, filepath.Join(b.src, "d"), filepath.Join(b.dst, "D"), time.Nanosecond)
		wantNoRest(t, b.dst)
		b.wantExactEvents()
	}
}

// The first name cannot be copied: the next takes its place.
func TestFirstNameFails(t *testing.T) {
	b := newBench(t).as(end{able: true})
	names := linked(t, b.src, 5000)
	failed := ""
	b.to.at = func(c call) fault {
		if c.op == "put" && c.path.Base() != "other" && !tree.IsPartialName(c.path.Base()) && failed == "" {
			failed = c.path.String()
		}
		if c.op == "put" && c.path.String() == failed || c.op == "link" && c.path.String() == failed {
			return fault{before: os.ErrPermission}
		}
		return fault{}
	}
	sum, err := b.copy(t.Context(), withLinks(), "d", "D")
	if sum.Failed != 1 || sum.Files != 4 || !errors.Is(err, os.ErrPermission) {
		t.Errorf("copy = %+v, %v, want one failure", sum, err)
	}
	var good []string
	for _, name := range names {
		if copyName(name) != failed {
			good = append(good, copyName(name))
		}
	}
	wantLinked(t, b.dst, good...)
}

// What --overwrite=never left may be something else.
func TestNoLinkToWhatWasKept(t *testing.T) {
	b := newBench(t).as(end{able: true})
	names := linked(t, b.src, 5000)
	write(t, b.dst, copyName(names[0]), []byte("old"))
	o := withLinks()
	o.NoTargetDir = true
	never(&o)
	b.must(o, "d", "D")
	wantFile(t, b.dst, copyName(names[0]), []byte("old"))
	for _, name := range names[1:] {
		wantFile(t, b.dst, copyName(name), bytesOf(7, 5000))
	}
	wantLinked(t, b.dst, copyName(names[1]), copyName(names[2]), copyName(names[3]))
}

func TestLinksAreMadeInSpiteOfLossesAndKills(t *testing.T) {
	t.Parallel()
	lose := func(n int, how func(error) fault, cause error) (done bool) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t).as(end{to: true, able: true})
			names := linked(t, b.src, 100)
			o := withLinks()
			o.Files = 1
			calls := 0
			b.to.at = func(c call) fault {
				if calls++; calls == n || calls > n && errors.Is(cause, tree.ErrClosed) {
					return how(cause)
				}
				return fault{}
			}
			_, err := b.copy(t.Context(), o, "d", "D")
			done = calls < n
			if errors.Is(cause, tree.ErrClosed) && !done {
				b.heal()
				// Killed behind its very last step it is done.
				if !isFinished(t, filepath.Join(b.src, "d"), filepath.Join(b.dst, "D"), time.Nanosecond) {
					_, err = b.copy(t.Context(), o, "d", "D")
				} else {
					err = nil
				}
			}
			if err != nil {
				t.Fatalf("%v at call %d: copy = %v", cause, n, err)
			}
			copies := make([]string, len(names))
			for i, name := range names {
				copies[i] = copyName(name)
			}
			wantLinked(t, b.dst, copies...)
			wantAlike(t, filepath.Join(b.src, "d"), filepath.Join(b.dst, "D"), time.Nanosecond)
			wantNoRest(t, b.dst)
			if t.Failed() {
				t.Fatalf("%v at call %d", cause, n)
			}
		})
		return done
	}
	for _, tt := range []struct {
		how   func(error) fault
		cause error
	}{{before, tree.ErrLost}, {after, tree.ErrLost}, {before, errKilled}} {
		for n := 1; !lose(n, tt.how, tt.cause); n++ {
			if t.Failed() {
				return
			}
			if n > 500 {
				t.Fatal("the copy has no end")
			}
		}
	}
}

// Files with one name are not remembered, others only until all were met.
func TestLinksAreForgotten(t *testing.T) {
	var l links
	c := &copier{crew: newCrew(1)}
	w := &ways{links: &l}
	for i := range uint64(100) {
		for name := range uint64(3) {
			j := &job{ways: w, entry: tree.Entry{Nlink: 3, Inode: i + 1}, to: tree.Path(fmt.Sprint(i, name)), label: "x"}
			followed, err := c.follow(context.Background(), j)
			if err != nil || followed != (name > 0) {
				t.Fatalf("follow = %v, %v", followed, err)
			}
		}
		n := l.known[fileID{inode: i + 1}]
		if len(n.waiting) != 2 {
			t.Fatalf("%d names wait, want 2", len(n.waiting))
		}
		n.waiting = nil
		first := &job{ways: w, names: n, copied: true, entry: tree.Entry{Nlink: 3}}
		if err := c.nameRest(context.Background(), first); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.known) > 0 {
		t.Errorf("%d files are remembered", len(l.known))
	}
}

// oneNumber is a tree all of whose files are listed with the same number, as when
// one is removed and the next made while they are copied.
type oneNumber struct{ tree.SubTree }

func (t oneNumber) Sub(ctx context.Context, p tree.Path) (tree.SubTree, error) {
	sub, err := t.SubTree.Sub(ctx, p)
	return oneNumber{sub}, err
}

func (t oneNumber) List(ctx context.Context, p tree.Path) iter.Seq2[tree.Entry, error] {
	return func(yield func(tree.Entry, error) bool) {
		for e, err := range t.SubTree.List(ctx, p) {
			if e.Kind == tree.KindFile {
				e.Inode, e.Nlink = 1, 2
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

func TestNoLinkToAnotherFileOfTheSameNumber(t *testing.T) {
	b := newBench(t).as(end{able: true})
	write(t, b.src, "d/a", bytesOf(1, 5000))
	write(t, b.src, "d/b", bytesOf(2, 5001))
	from := oneNumber{b.source.(tree.SubTree)} //nolint:forcetypeassert // a test's
	sum, err := Copy(t.Context(), place(b.sink, "", "D"), []Place{place(from, "", "d")}, withLinks())
	if err != nil || sum.Files != 2 {
		t.Errorf("copy = %+v, %v, want two files", sum, err)
	}
	wantAlike(t, filepath.Join(b.src, "d"), filepath.Join(b.dst, "D"), time.Nanosecond)
	wantNoRest(t, b.dst)
}
