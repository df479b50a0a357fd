package transfer

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"transferd/internal/tree"
)

// loseOp loses the connection at the first n calls of op.
func loseOp(op string, n int, how func(error) fault) func(call) fault {
	return func(c call) fault {
		if c.op == op && n > 0 {
			n--
			return how(tree.ErrLost)
		}
		return fault{}
	}
}

func before(err error) fault { return fault{before: err} }
func after(err error) fault  { return fault{after: err} }

func TestRetryPauses(t *testing.T) {
	second := time.Second
	for _, tt := range []struct {
		name    string
		retries int
		lost    int
		want    []time.Duration
		err     error
	}{
		{"none", 0, 1, nil, tree.ErrLost},
		{"once", 5, 1, []time.Duration{second}, nil},
		{"as often as may be", 3, 3, []time.Duration{second, 2 * second, 4 * second}, nil},
		{"once too often", 3, 4, []time.Duration{second, 2 * second, 4 * second}, tree.ErrLost},
		{"no longer than the longest", 8, 7, []time.Duration{
			second, 2 * second, 4 * second, 8 * second, 16 * second, 30 * second, 30 * second,
		}, nil},
	} {
		for _, op := range []string{"open", "begin", "commit"} {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t).remote(op == "open", op != "open")
				write(t, b.src, "f", []byte("data"))
				if op == "open" {
					b.from.at = loseOp(op, tt.lost, before)
				} else {
					b.to.at = loseOp(op, tt.lost, before)
				}
				o := options()
				o.Retries = tt.retries
				start := time.Now()
				_, err := b.copy(t.Context(), o, "f", "f")
				if !errors.Is(err, tt.err) {
					t.Errorf("%s, %s: copy = %v, want %v", tt.name, op, err, tt.err)
				}
				var pauses []time.Duration
				var sum time.Duration
				for i, e := range told[Retrying](&b.log) {
					if e.Attempt != i+1 || !errors.Is(e.Err, tree.ErrLost) || e.Path != "f" {
						t.Errorf("%s, %s: event %d is %+v", tt.name, op, i, e)
					}
					pauses = append(pauses, e.After)
					sum += e.After
				}
				if diff := cmp.Diff(tt.want, pauses); diff != "" {
					t.Errorf("%s, %s: pauses (-want +got):\n%s", tt.name, op, diff)
				}
				if took := time.Since(start); took != sum {
					t.Errorf("%s, %s: took %v, want %v", tt.name, op, took, sum)
				}
				if tt.err == nil {
					b.wantDone([]byte("data"))
				}
			})
		}
	}
}

// A server that takes everything and then dies, again and again, is no
// progress, however much was sent to it.
func TestBytesThatNobodyKeepsAreNoProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t).remote(false, true)
		write(t, b.src, "f", bytesOf(1, 1000))
		b.to.at = loseOp("commit", 1000, before)
		_, err := b.copy(t.Context(), options(), "f", "f")
		if n := len(told[Retrying](&b.log)); !errors.Is(err, tree.ErrLost) || n != 5 {
			t.Errorf("copy = %v after %d retries, want 5", err, n)
		}
	})
}

// The answer to a Commit is lost after it was done: the file is there.
func TestLostAnswerToACommit(t *testing.T) {
	for _, tt := range []struct {
		name  string
		size  int
		there bool // an old file
		set   func(*Options)
	}{
		{"small", 1000, false, func(*Options) {}},
		{"large", 3 * mib, true, func(*Options) {}},
		{"empty", 0, false, func(*Options) {}},
		{"never overwrite", 1000, false, never},
		{"by digest", 1000, true, checksum},
		{"without times", 1000, true, func(o *Options) { o.Preserve.Times = false }},
		{"without times, never overwrite", 3 * mib, false, func(o *Options) { o.Preserve.Times = false; never(o) }},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t).remote(false, true)
			data := bytesOf(8, tt.size)
			write(t, b.src, "f", data)
			if tt.there {
				// Only its contents differ.
				write(t, b.dst, "f", bytesOf(9, tt.size))
				if !options().Preserve.Times {
					t.Fatal("times")
				}
			}
			o := options()
			tt.set(&o)
			if tt.there && !o.Checksum {
				if err := os.Chtimes(filepath.Join(b.dst, "f"), moment(30), moment(30)); err != nil {
					t.Fatal(err)
				}
			}
			b.to.at = loseOp("commit", 1, after)
			sum := b.must(o, "f", "f")
			b.wantDone(data)
			if n := b.to.count("commit"); n != 1 || sum.Files != 1 || sum.Skipped != 0 {
				t.Errorf("%s: %d commits, %+v; want one, and one file", tt.name, n, sum)
			}
			if b.to.written != int64(tt.size) {
				t.Errorf("%s: %d bytes were sent", tt.name, b.to.written)
			}
			b.wantExactEvents()
			if e := told[Finished](&b.log)[0]; e.Verified == "" || !e.HasDigest {
				t.Errorf("%s: finished %+v, want how it was checked", tt.name, e)
			}
		})
	}
}

// The same, but it was not done, and what is there only looks like it.
func TestLostCommitThatWasNotDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t).remote(false, true)
		data := bytesOf(8, 1000)
		write(t, b.src, "f", data)
		write(t, b.dst, "f", bytesOf(9, 1000)) // the same size and time
		o := options()
		o.Checksum = true
		b.to.at = loseOp("commit", 1, before)
		b.must(o, "f", "f")
		b.wantDone(data)
	})
}

// In place, what a lost Commit leaves may have the size of the source, and a time
// that looks like its, and not be whole.
func TestLostCommitInPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t).remote(false, true)
		data := bytesOf(8, 1000)
		write(t, b.src, "f", data)
		write(t, b.dst, "f", bytesOf(9, 1000))
		if err := os.Chtimes(filepath.Join(b.dst, "f"), moment(30), moment(30)); err != nil {
			t.Fatal(err)
		}
		o := options()
		o.InPlace = true
		lose := loseOp("commit", 1, before)
		b.to.at = func(c call) fault {
			bad := lose(c)
			if bad.before != nil {
				write(t, b.dst, "f", bytesOf(9, 1000)) // the same size and time
			}
			return bad
		}
		b.must(o, "f", "f")
		b.wantDone(data)
	})
}

// A failure that is no lost connection is not tried again.
func TestOtherErrorsAreNotRetried(t *testing.T) {
	for _, cause := range []error{fs.ErrPermission, tree.ErrNoSpace, tree.ErrTakenOver, tree.ErrBusy, tree.ErrIntegrity} {
		b := newBench(t)
		write(t, b.src, "f", []byte("data"))
		b.to.at = func(c call) fault {
			if c.op == "begin" {
				return fault{before: cause}
			}
			return fault{}
		}
		_, err := b.copy(t.Context(), options(), "f", "f")
		if n := b.to.count("begin"); !errors.Is(err, cause) || n != 1 {
			t.Errorf("copy = %v after %d attempts, want %v after one", err, n, cause)
		}
	}
}

func TestFullDiskKeepsWhatArrived(t *testing.T) {
	b := newBench(t)
	data := bytesOf(1, 6*mib)
	write(t, b.src, "d/f", data)
	write(t, b.src, "d/g", []byte("small"))
	n := 0
	both := make(chan struct{})
	b.to.at = func(c call) fault {
		if c.op == "write" && c.path == "D/f" {
			<-both
			if n++; n > 4 {
				return fault{before: tree.ErrNoSpace}
			}
		}
		return fault{}
	}
	o := options()
	o.Files = 1
	o.Events = func(e Event) {
		if found, ok := e.(Found); ok && found.Files == 2 && !found.Complete {
			close(both)
		}
	}
	sum, err := b.copy(t.Context(), o, "d", "D")
	if !errors.Is(err, tree.ErrNoSpace) || errors.As(err, new(*PartialError)) || sum.Failed != 1 || sum.Left+sum.Files != 1 {
		t.Errorf("copy = %+v, %v, want a full disk, and the other file left or copied before", sum, err)
	}
	o.Events = nil
	b.heal()
	if sum := b.must(o, "d", "D"); sum.Resumed != 4*mib || sum.Sent < 2*mib {
		t.Errorf("%+v, want 4 MiB kept", sum)
	}
	wantAlike(t, filepath.Join(b.src, "d"), filepath.Join(b.dst, "D"), time.Nanosecond)
	wantNoRest(t, b.dst)
}

// Whoever ends the copy during a pause does not have to wait for it, and hears
// of no failure.
func TestEndDuringAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t).remote(false, true)
		write(t, b.src, "f", []byte("data"))
		b.to.at = loseOp("begin", 100, before)
		stop := errors.New("enough")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, stop)
		defer cancel()
		start := time.Now()
		_, err := b.copy(ctx, options(), "f", "f")
		if !errors.Is(err, stop) || time.Since(start) != 10*time.Second {
			t.Errorf("copy = %v after %v, want %v after 10s", err, time.Since(start), stop)
		}
		if failed := told[Failed](&b.log); len(failed) > 0 {
			t.Errorf("failed %v, want nothing", failed)
		}
	})
}
