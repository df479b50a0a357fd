package transfer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"transferd/internal/tree"
)

// Whatever a copy waits for when it is interrupted: it ends at once, tells no
// failure, keeps what arrived, and goes on where it was.
func TestInterruptedAnywhere(t *testing.T) {
	stop := errors.New("interrupted")
	for _, end := range ends {
		for _, op := range []string{
			"stat", "lstat", "list", "sub", "mkdir", "rename", "open", "fstat", "read", "get", "put",
			"begin", "write", "recheck", "commit", "symlink", "setattr", "remove",
		} {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t).as(end)
				treeOfAll(t, b.src)
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				// The third call of op hangs, or the last.
				var n atomic.Int32
				hang := func(c call) bool {
					if c.op != op {
						return false
					}
					n := n.Add(1)
					return n == 3 || op == "recheck" || op == "remove" || op == "sub" && n == 2
				}
				b.from.block, b.to.block = hang, hang
				go func() {
					synctest.Wait()
					cancel(stop)
				}()
				start := time.Now()
				_, err := b.copy(ctx, options(), "d", "D")
				// Nothing to hang at is fine; then it may have been done before.
				if err != nil && !errors.Is(err, stop) {
					t.Errorf("%s, %s: copy = %v, want %v", end.name, op, err, stop)
				}
				if took := time.Since(start); took > suspendTime {
					t.Errorf("%s, %s: took %v", end.name, op, took)
				}
				if failed := told[Failed](&b.log); len(failed) > 0 {
					t.Errorf("%s, %s: failed %v, want nothing", end.name, op, failed)
				}
				wantWritersEnded(t, b.to)
				b.heal()
				if err != nil {
					b.must(options(), "d", "D")
				}
				wantAlike(t, filepath.Join(b.src, "d"), filepath.Join(b.dst, "D"), end.grain)
				wantNoRest(t, b.dst)
			})
		}
	}
}

// wantWritersEnded fails unless every Writer came to exactly one end.
func wantWritersEnded(t *testing.T, f *faults) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for w := range f.writers {
		t.Errorf("the writer of %s was not ended", w.path)
	}
	begun, ended := 0, 0
	for _, c := range f.calls {
		switch c.op {
		case "begin":
			begun++
		case "commit", "suspend", "abort":
			ended++
		}
	}
	if ended > begun {
		t.Errorf("%d writers were ended %d times", begun, ended)
	}
}

func TestInterruptedCopyIsSuspended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		data := bytesOf(1, 8*mib)
		write(t, b.src, "f", data)
		b.breakOff(options(), 5)
		sum := b.must(options(), "f", "f")
		b.wantDone(data)
		if sum.Resumed != 5*mib {
			t.Errorf("%d bytes were kept, want 5 MiB", sum.Resumed)
		}
	})
}

// A Suspend that hangs is given suspendTime.
func TestSuspendThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		write(t, b.src, "f", bytesOf(1, 4*mib))
		ctx, cancel := context.WithCancel(t.Context())
		b.to.at = func(c call) fault {
			if c.op == "write" {
				cancel()
			}
			return fault{}
		}
		b.to.block = func(c call) bool { return c.op == "suspend" }
		start := time.Now()
		_, err := b.copy(ctx, options(), "f", "f")
		if took := time.Since(start); !errors.Is(err, context.Canceled) || took != suspendTime {
			t.Errorf("copy = %v after %v, want an end after %v", err, took, suspendTime)
		}
		b.heal()
	})
}

// One file stops the copy: the others end too, are kept, and count as no failure.
func TestFatalErrorStopsTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		for i := range 6 {
			write(t, b.src, fmt.Sprintf("d/%d", i), bytesOf(byte(i), 3*mib))
		}
		b.to.block = func(c call) bool { return c.op == "commit" && c.path != "D/3" && c.path.Parent() == "D" }
		b.to.at = func(c call) fault {
			if c.op == "commit" && c.path == "D/3" {
				return fault{before: tree.ErrQuota}
			}
			return fault{}
		}
		sum, err := b.copy(t.Context(), options(), "d", "D")
		if !errors.Is(err, tree.ErrQuota) || sum.Failed != 1 || len(told[Failed](&b.log)) != 1 {
			t.Errorf("copy = %+v, %v, failed %v; want the one", sum, err, told[Failed](&b.log))
		}
		b.heal()
		b.must(options(), "d", "D")
		wantAlike(t, filepath.Join(b.src, "d"), filepath.Join(b.dst, "D"), time.Nanosecond)
		wantNoRest(t, b.dst)
	})
}

func TestInterruptedBeforeItBegan(t *testing.T) {
	b := newBench(t)
	treeOfAll(t, b.src)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.copy(ctx, options(), "d", "D"); !errors.Is(err, context.Canceled) {
		t.Errorf("copy = %v, want it canceled", err)
	}
	if in, err := os.ReadDir(b.dst); err != nil || len(in) > 0 {
		t.Errorf("%v, %v is there, want nothing", in, err)
	}
}
