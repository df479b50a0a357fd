package transfer

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"transferd/internal/tree"
)

// treeOfAll makes the directory d below dir: a bit of everything.
func treeOfAll(t *testing.T, dir string) {
	t.Helper()
	write(t, dir, "d/small", []byte("small"))
	write(t, dir, "d/nothing", nil)
	write(t, dir, "d/sub/large", bytesOf(1, mib+10))
	write(t, dir, "d/ro/inside", []byte("in a directory that nobody may write"))
	for _, err := range []error{
		os.Mkdir(filepath.Join(dir, "d/empty"), 0o700),
		os.Symlink("sub/large", filepath.Join(dir, "d/link")),
		os.Chmod(filepath.Join(dir, "d/small"), 0o600),
		os.Chmod(filepath.Join(dir, "d/ro"), 0o555),
		os.Chtimes(filepath.Join(dir, "d/ro"), moment(3), moment(4)),
		os.Chtimes(filepath.Join(dir, "d/sub"), moment(5), moment(6)),
		os.Chmod(filepath.Join(dir, "d"), 0o750),
		os.Chtimes(filepath.Join(dir, "d"), moment(7), moment(8)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// errKilled is what a copy sees whose process was killed: nothing happens any
// more.
var errKilled = fmt.Errorf("killed: %w", tree.ErrClosed)

// killAt makes everything fail from the nth call on, in whichever tree. It
// reports whether it came to it.
func (b *bench) killAt(n int64) (killed func() bool) {
	var calls atomic.Int64
	at := func(call) fault {
		if calls.Add(1) >= n {
			return fault{before: errKilled}
		}
		return fault{}
	}
	b.from.at, b.to.at = at, at
	return func() bool { return calls.Load() >= n }
}

// An end is a kind of copy that the engine makes.
type end struct {
	name     string
	from, to bool // remote
	able     bool // both trees have the abilities of our own protocol
	grain    time.Duration
}

var ends = []end{
	{"local", false, false, false, time.Nanosecond},
	{"upload", false, true, false, time.Second},
	{"download", true, false, false, time.Second},
	{"able local", false, false, true, time.Nanosecond},
	{"able upload", false, true, true, time.Nanosecond},
	{"able download", true, false, true, time.Nanosecond},
}

func TestDirectoryCopyIsKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, end := range ends {
		for _, to := range []string{"D", "D/"} {
			if to == "D/" && end.name != "local" {
				continue // where it lands is not the transport's business
			}
			t.Run(end.name+" to "+to, func(t *testing.T) {
				t.Parallel()
				n := int64(1)
				for killAndRerun(t, n, to, end) {
					n++
				}
				if n < 30 {
					t.Errorf("a copy has only %d steps", n)
				}
			})
		}
	}
}

// killAndRerun kills a copy before its nth step and runs it again. It reports
// whether there was such a step.
func killAndRerun(t *testing.T, n int64, to string, end end) bool {
	t.Helper()
	b := newBench(t).as(end)
	treeOfAll(t, b.src)
	o := options()
	o.Files = 1
	killed := b.killAt(n)
	_, err := b.copy(t.Context(), o, "d", to)
	if !killed() {
		if err != nil {
			t.Fatalf("copy that was not killed = %v", err)
		}
		return false
	}
	b.heal()
	copied := filepath.Join(b.dst, "D")
	if to == "D/" {
		copied = filepath.Join(copied, "d")
	}
	// What was killed behind its very last step is finished, and a second run
	// may nest.
	if !isFinished(t, filepath.Join(b.src, "d"), copied, end.grain) {
		b.must(o, "d", to)
	}
	wantAlike(t, filepath.Join(b.src, "d"), copied, end.grain)
	wantNoRest(t, b.dst)
	if t.Failed() {
		t.Fatalf("after a kill at step %d", n)
	}
	return true
}

// isFinished reports whether the directory at copied is like the one at src and
// nothing of ours is left beside it.
func isFinished(t *testing.T, src, copied string, grain time.Duration) bool {
	t.Helper()
	if _, err := os.Lstat(copied); err != nil {
		return false
	}
	rest, err := filepath.Glob(filepath.Join(filepath.Dir(copied), ".transfer-*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(rest) == 0 && cmp.Equal(snapshot(t, src, grain), snapshot(t, copied, grain))
}

func TestConnectionIsLostAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, end := range ends {
		if !end.from && !end.to {
			continue
		}
		t.Run(end.name, func(t *testing.T) {
			t.Parallel()
			for n := int64(1); ; n++ {
				var more bool
				for _, after := range []bool{false, true} {
					synctest.Test(t, func(t *testing.T) {
						b := newBench(t).as(end)
						treeOfAll(t, b.src)
						more = b.loseAt(n, after, "d", "D", end.grain)
					})
				}
				if !more || t.Failed() {
					return
				}
			}
		})
	}
}

// loseAt loses the connection at the nth call and wants the copy to go on by
// itself. It reports whether there was such a call.
func (b *bench) loseAt(n int64, after bool, from, to string, grain time.Duration) bool {
	b.t.Helper()
	var calls atomic.Int64
	var where call
	at := func(c call) fault {
		switch {
		case calls.Add(1) != n || c.op == "suspend":
			return fault{}
		case after:
			where = c
			return fault{after: tree.ErrLost}
		}
		where = c
		return fault{before: tree.ErrLost}
	}
	b.from.at, b.to.at = at, at
	o := options()
	o.Files = 1
	sum, err := b.copy(b.t.Context(), o, from, to)
	if err != nil {
		b.t.Fatalf("connection lost at step %d, %v: copy = %v", n, where, err)
	}
	if sum.Files != 5 || sum.Skipped != 0 {
		b.t.Errorf("connection lost at step %d, %v: %d files and %d skipped, want 5 and 0", n, where, sum.Files, sum.Skipped)
	}
	b.to.dead()
	wantAlike(b.t, filepath.Join(b.src, from), filepath.Join(b.dst, to), grain)
	wantNoRest(b.t, b.dst)
	if b.t.Failed() {
		b.t.Fatalf("connection lost at step %d, %v, after it was done: %v", n, where, after)
	}
	return calls.Load() >= n
}

func TestFailureKeepsTheMark(t *testing.T) {
	b := newBench(t)
	treeOfAll(t, b.src)
	b.from.at = func(c call) fault {
		if c.op == "open" && c.path == "d/small" {
			return fault{before: os.ErrPermission}
		}
		return fault{}
	}
	if _, err := b.copy(t.Context(), options(), "d", "D"); err == nil {
		t.Fatal("copy of an unreadable file = nil")
	}
	b.heal()
	if sum := b.must(options(), "d", "D"); sum.Files != 1 {
		t.Errorf("the second run copied %d files, want the one that failed", sum.Files)
	}
	wantAlike(t, filepath.Join(b.src, "d"), filepath.Join(b.dst, "D"), time.Nanosecond)
	wantNoRest(t, b.dst)
}

func TestFailureElsewhereKeepsNoMark(t *testing.T) {
	b := newBench(t)
	treeOfAll(t, b.src)
	if _, err := b.copy(t.Context(), options(), "d", "no such", "D/"); err == nil {
		t.Fatal("copy of a missing operand = nil")
	}
	wantAlike(t, filepath.Join(b.src, "d"), filepath.Join(b.dst, "D/d"), time.Nanosecond)
	wantNoRest(t, b.dst)
}
