package transfer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"transferd/internal/tree"
)

// breakOff copies f until n chunks are written and then interrupts that. What
// arrived is kept.
func (b *bench) breakOff(o Options, n int) {
	b.t.Helper()
	b.breakOffAt(o, "f", n)
}

func (b *bench) breakOffAt(o Options, name string, n int) {
	b.t.Helper()
	stop := errors.New("interrupted for the test")
	ctx, cancel := context.WithCancelCause(b.t.Context())
	defer cancel(nil)
	begun := 0
	b.to.block = func(c call) bool {
		if c.op == "write" {
			begun++
		}
		return c.op == "write" && begun > n
	}
	var done atomic.Int64
	o.Events = func(e Event) {
		if _, ok := e.(Moved); ok && done.Add(1) == int64(n) {
			cancel(stop)
		}
	}
	src, dst := place(b.source, "source", name), place(b.sink, "", "f")
	if _, err := Copy(ctx, dst, []Place{src}, o); !errors.Is(err, stop) {
		b.t.Fatalf("copy that is broken off = %v", err)
	}
	if _, err := os.Lstat(filepath.Join(b.dst, "f")); err == nil {
		b.t.Fatal("a copy that was broken off has its final name")
	}
	b.heal()
}

// partial returns the only partial in the destination.
func (b *bench) partial() string {
	b.t.Helper()
	found, err := filepath.Glob(filepath.Join(b.dst, ".transfer-*.part"))
	if err != nil || len(found) != 1 {
		b.t.Fatalf("partials %q, %v, want one", found, err)
	}
	return found[0]
}

func (b *bench) wantDone(data []byte) {
	b.t.Helper()
	wantFile(b.t, b.dst, "f", data)
	wantNoRest(b.t, b.dst)
}

func TestResumeSendsOnlyTheRest(t *testing.T) {
	for _, end := range ends {
		for _, verify := range []tree.Verify{tree.VerifyFast, tree.VerifyFull} {
			b := newBench(t).as(end)
			data := bytesOf(2, 8*mib+100)
			write(t, b.src, "f", data)
			o := options()
			o.Verify = verify
			b.breakOff(o, 5)
			sum := b.must(o, "f", "f")
			b.wantDone(data)
			// Which five chunks, and whether the short one is among them, is chance.
			rest := int64(len(data)) - sum.Resumed
			if sum.Sent != rest || b.to.written != rest || sum.Resumed != 5*mib && sum.Resumed != 4*mib+100 {
				t.Errorf("%s, verify %d: sent %d, written %d, resumed %d; want five chunks kept and %d sent",
					end.name, verify, sum.Sent, b.to.written, sum.Resumed, rest)
			}
			wantRead := int64(len(data))
			if verify == tree.VerifyFast || end.able && end.from { // else it is hashed where it lies
				wantRead = rest
			}
			if b.from.read != wantRead {
				t.Errorf("%s, verify %d: the source was read %d bytes, want %d", end.name, verify, b.from.read, wantRead)
			}
		}
	}
}

func TestNoResumeSendsEverything(t *testing.T) {
	b := newBench(t)
	data := bytesOf(2, 4*mib)
	write(t, b.src, "f", data)
	b.breakOff(options(), 2)
	o := options()
	o.NoResume = true
	if sum := b.must(o, "f", "f"); sum.Sent != 4*mib || sum.Resumed != 0 {
		t.Errorf("sent %d and resumed %d, want all and nothing", sum.Sent, sum.Resumed)
	}
	b.wantDone(data)
}

func TestResumeOfAChangedSourceSendsWhatDiffers(t *testing.T) {
	b := newBench(t)
	data := bytesOf(2, 8*mib)
	write(t, b.src, "f", data)
	o := options()
	o.Files = 1
	b.breakOff(o, 6)
	data[mib+5] ^= 0xff
	data = append(data, bytesOf(3, 2*mib+1)...)
	write(t, b.src, "f", data)
	if err := os.Chtimes(filepath.Join(b.src, "f"), moment(9), moment(9)); err != nil {
		t.Fatal(err)
	}
	sum := b.must(o, "f", "f")
	b.wantDone(data)
	// Six chunks were kept, the changed one perhaps among them.
	if sum.Sent+sum.Resumed != int64(len(data)) || sum.Resumed < 5*mib {
		t.Errorf("sent %d and resumed %d of %d", sum.Sent, sum.Resumed, len(data))
	}
	if b.from.read != int64(len(data)) {
		t.Errorf("the source was read %d bytes, want all %d", b.from.read, len(data))
	}
}

// A source that changed keeps nothing of its old version where it shrank.
func TestResumeOfAShorterSource(t *testing.T) {
	for _, size := range []int{0, 1, mib, 2*mib + 7} {
		b := newBench(t)
		write(t, b.src, "f", bytesOf(2, 8*mib))
		b.breakOff(options(), 6)
		data := bytesOf(4, size)
		write(t, b.src, "f", data)
		b.must(options(), "f", "f")
		b.wantDone(data)
	}
}

func TestBadKeptChunkIsSentAgain(t *testing.T) {
	for _, verify := range []tree.Verify{tree.VerifyFast, tree.VerifyFull} {
		b := newBench(t)
		data := bytesOf(2, 6*mib)
		write(t, b.src, "f", data)
		o := options()
		o.Verify = verify
		b.breakOff(o, 4)
		rot(t, b.partial(), data)
		sum := b.must(o, "f", "f")
		b.wantDone(data)
		if sum.Sent != 3*mib || sum.Resumed != 3*mib {
			t.Errorf("verify %d: sent %d and resumed %d, want 3 MiB each", verify, sum.Sent, sum.Resumed)
		}
		b.wantExactEvents()
	}
}

// rot flips a byte of the first chunk of data that is in the file at path.
func rot(t *testing.T, path string, data []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	one := make([]byte, 1)
	for at := 77; at < len(data); at += mib {
		if _, err := f.ReadAt(one, int64(at)); err == nil && one[0] == data[at] {
			if _, err := f.WriteAt([]byte{data[at] ^ 0x10}, int64(at)); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("no chunk of data is there")
}

func TestSourceThatChangesDuringTheCopy(t *testing.T) {
	old, data := bytesOf(5, 3*mib), bytesOf(6, 3*mib+4)
	for _, tt := range []struct {
		name  string
		times int // how often it changes
		want  error
	}{
		{"once", 1, tree.ErrSourceChanged},
		{"all the time", 100, tree.ErrSourceChanged},
	} {
		for _, end := range ends {
			b := newBench(t).as(end)
			write(t, b.src, "f", old)
			changes := 0
			// Behind the last read: the copy must notice at its end.
			b.to.at = func(c call) fault {
				if c.op == "write" && b.from.count("read") >= 3 && changes < tt.times {
					changes++
					write(t, b.src, "f", data)
					at := moment(10 + changes)
					if err := os.Chtimes(filepath.Join(b.src, "f"), at, at); err != nil {
						t.Error(err)
					}
				}
				return fault{}
			}
			_, err := b.copy(t.Context(), options(), "f", "f")
			if !errors.Is(err, tt.want) {
				t.Errorf("%s, %s: copy = %v, want %v", tt.name, end.name, err, tt.want)
			}
			if _, err := os.Lstat(filepath.Join(b.dst, "f")); err == nil {
				t.Errorf("%s, %s: a mixture has the final name", tt.name, end.name)
			}
			if tt.times == 1 { // it is settled now, and what arrived is of use
				b.must(options(), "f", "f")
				b.wantDone(data)
			}
		}
	}
}

// Replaced by another file of the same size and time: only the inode tells.
func TestSourceThatIsReplacedDuringTheCopy(t *testing.T) {
	b := newBench(t)
	write(t, b.src, "f", bytesOf(5, 2*mib))
	data := bytesOf(6, 2*mib)
	write(t, b.src, "new", data)
	b.from.at = func(c call) fault {
		if c.op == "stat" && c.path == "f" {
			// After it was looked at, before it is opened.
			defer func() {
				if err := os.Rename(filepath.Join(b.src, "new"), filepath.Join(b.src, "f")); err != nil && !os.IsNotExist(err) {
					t.Error(err)
				}
			}()
		}
		return fault{}
	}
	b.must(options(), "f", "f")
	b.wantDone(data)
}

func TestResumeAfterALostConnection(t *testing.T) {
	for _, end := range ends[1:] {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t).as(end)
			// More than two connections bring, with all that is in flight then.
			data := bytesOf(2, (2*(fileChunks+2)+1)*mib)
			write(t, b.src, "f", data)
			losses := 0
			// Each connection breaks when 2 MiB have come through.
			lose := func(first, op string, moved *int64) func(c call) fault {
				var start int64
				return func(c call) fault {
					if c.op == first {
						start = *moved
					}
					if c.op != op || *moved < start+2*mib {
						return fault{}
					}
					losses++
					return fault{before: tree.ErrLost}
				}
			}
			if end.from {
				b.from.at = lose("open", "read", &b.from.read)
			} else {
				b.to.at = lose("begin", "write", &b.to.written)
			}
			o := options()
			o.Retries = 1 // and yet it comes through, for it gets further each time
			sum := b.must(o, "f", "f")
			b.wantDone(data)
			if losses < 2 || sum.Resumed != 0 {
				t.Errorf("%s: %d losses, %d resumed from earlier runs; want some, and 0", end.name, losses, sum.Resumed)
			}
			b.wantExactEvents()
		})
	}
}

// What a listing said of a small file is not asked again before it is read.
func TestSourceThatChangedSinceItWasListed(t *testing.T) {
	for _, end := range ends {
		for _, size := range []int{0, 10, 500, 3 * mib} {
			b := newBench(t).as(end)
			write(t, b.src, "d/f", bytesOf(5, 100))
			data := bytesOf(6, size)
			once := false
			b.from.at = func(c call) fault {
				if (c.op == "open" || c.op == "get") && !once {
					once = true
					write(t, b.src, "d/f", data)
					if err := os.Chtimes(filepath.Join(b.src, "d/f"), moment(20), moment(20)); err != nil {
						t.Error(err)
					}
				}
				return fault{}
			}
			b.must(options(), "d", "D/")
			wantFile(t, b.dst, "D/d/f", data)
			wantNoRest(t, b.dst)
			found, moved := int64(0), int64(0)
			for _, e := range told[Found](&b.log) {
				found = e.Bytes
			}
			for _, e := range told[Moved](&b.log) {
				moved += e.Bytes
			}
			if found != moved {
				t.Errorf("%s, %d bytes: found %d bytes in the end, moved %d", end.name, size, found, moved)
			}
		}
	}
}

// A kill right behind the rename leaves the journal of a file that is done.
func TestWhatAFinishedFileLeftIsTidiedUp(t *testing.T) {
	b := newBench(t)
	data := bytesOf(1, 3*mib)
	write(t, b.src, "d/f", data)
	b.breakOffAt(options(), "d/f", 2)
	left := filepath.Base(b.partial())
	for _, args := range [][]string{{"d/f", "f"}, {"d", "D"}} {
		o := options()
		o.NoTargetDir = true
		b.must(o, args...)
		dir := b.dst
		if args[0] == "d" {
			dir = filepath.Join(b.dst, "D")
			left = tree.PartialName(place(b.source, "source", "d/f").origin(o.Machine, "d/f"), "f") + ".part"
		}
		stem := strings.TrimSuffix(left, ".part")
		write(t, dir, stem+".journal", []byte("whatever"))
		b.heal()
		if sum := b.must(o, args...); sum.Skipped != 1 {
			t.Errorf("copy %q: %+v, want it skipped", args, sum)
		}
		wantNoRest(t, b.dst)
	}
}
