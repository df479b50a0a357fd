package transfer

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"transferd/internal/tree"
)

// What arrives damaged is read once more, and never written.
func TestDamagedChunks(t *testing.T) {
	for _, tt := range []struct {
		name  string
		times int32
		want  error
	}{
		{"once", 1, nil},
		{"always", 1 << 30, tree.ErrIntegrity},
	} {
		b := newBench(t).as(end{from: true, able: true})
		data := bytesOf(2, 5*mib+9)
		write(t, b.src, "f", data)
		var damaged atomic.Int32
		b.from.damage = func(p []byte, index int64) {
			if index == 3 && damaged.Add(1) <= tt.times {
				p[len(p)/2] ^= 4
			}
		}
		_, err := b.copy(t.Context(), options(), "f", "f")
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: copy = %v, want %v", tt.name, err, tt.want)
		}
		if hints := told[Hint](&b.log); len(hints) != 1 || damaged.Load() != 2 {
			t.Errorf("%s: chunk 3 was read %d times, told %v; want two and one hint", tt.name, damaged.Load(), hints)
		}
		if tt.want == nil {
			b.wantDone(data)
			b.wantExactEvents()
			continue
		}
		if b.to.written > 4*mib+9 {
			t.Errorf("%s: %d bytes were written, the damaged chunk among them", tt.name, b.to.written)
		}
		if _, err := os.Lstat(filepath.Join(b.dst, "f")); err == nil {
			t.Errorf("%s: a damaged file has the final name", tt.name)
		}
		b.heal()
		b.must(options(), "f", "f")
		b.wantDone(data)
	}
}

// A source that changed is not read where it is still the same.
func TestChangedSourceIsHashedWhereItLies(t *testing.T) {
	b := newBench(t).as(end{from: true, able: true})
	data := bytesOf(2, 8*mib)
	write(t, b.src, "f", data)
	b.breakOff(options(), 6)
	for i := range 8 {
		if i < 2 {
			data[i*mib+7] ^= 1
		}
	}
	write(t, b.src, "f", data)
	if err := os.Chtimes(filepath.Join(b.src, "f"), moment(9), moment(9)); err != nil {
		t.Fatal(err)
	}
	sum := b.must(options(), "f", "f")
	b.wantDone(data)
	b.wantExactEvents()
	// Six chunks were kept, of which up to two changed.
	if sum.Resumed < 4*mib || sum.Resumed+sum.Sent != 8*mib || b.from.read != sum.Sent {
		t.Errorf("resumed %d, sent %d, read %d; want only what changed to be read", sum.Resumed, sum.Sent, b.from.read)
	}
	if n := b.from.count("hashchunks"); n == 0 || n > 6 {
		t.Errorf("values were asked for %d times", n)
	}
}

// And so it is when the server cannot hash, or the connection breaks meanwhile.
func TestHashingWhereItLiesFails(t *testing.T) {
	for _, cause := range []error{errors.ErrUnsupported, tree.ErrLost} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t).as(end{from: true, able: true})
			data := bytesOf(2, 8*mib)
			write(t, b.src, "f", data)
			b.breakOff(options(), 6)
			data[5] ^= 1
			write(t, b.src, "f", data)
			if err := os.Chtimes(filepath.Join(b.src, "f"), moment(9), moment(9)); err != nil {
				t.Fatal(err)
			}
			b.from.at = loseOp("hashchunks", 1, func(error) fault { return fault{before: cause} })
			b.must(options(), "f", "f")
			b.wantDone(data)
		})
	}
}

// A kept chunk that rotted on this disk is found though the server was asked.
func TestRottenChunkIsFoundBesideHashing(t *testing.T) {
	b := newBench(t).as(end{from: true, able: true})
	data := bytesOf(2, 8*mib)
	write(t, b.src, "f", data)
	o := options()
	o.Verify = tree.VerifyFull
	b.breakOff(o, 6)
	rot(t, b.partial(), data)
	sum := b.must(o, "f", "f")
	b.wantDone(data)
	if sum.Sent != 3*mib || b.from.read != 3*mib {
		t.Errorf("sent %d, read %d; want three chunks", sum.Sent, b.from.read)
	}
}

// The listing breaks off, again and again: every file is copied once.
func TestListingThatBreaksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const files = 3 * firstEntries
		from, to := &slow{dirs: 1, files: files, size: 1}, &slow{}
		broken := &brokenList{slow: from}
		sum, err := Copy(t.Context(), place(to, "to", "new"), []Place{place(broken, "from", ".")}, options())
		if err != nil || sum.Files != files || sum.Skipped > 0 {
			t.Errorf("copy = %+v, %v, want %d files", sum, err, files)
		}
		if broken.lost < 4 {
			t.Errorf("the listing broke off %d times", broken.lost)
		}
	})
}

// A file that grew, or has holes, goes as large ones do.
func TestSmallFileThatIsNone(t *testing.T) {
	for _, end := range ends {
		if !end.able {
			continue
		}
		b := newBench(t).as(end)
		write(t, b.src, "d/f", bytesOf(1, 100))
		sparseFile(t, filepath.Join(b.src, "d/holes"), 60_000, map[int64]string{100: "data"})
		data := bytesOf(6, 2*ableLimit)
		b.from.at = func(c call) fault {
			if c.op == "get" && c.path.Base() == "f" && len(read(t, b.src, "d/f")) == 100 {
				write(t, b.src, "d/f", data)
				if err := os.Chtimes(filepath.Join(b.src, "d/f"), moment(20), moment(20)); err != nil {
					t.Error(err)
				}
			}
			return fault{}
		}
		sum := b.must(options(), "d", "D")
		wantFile(t, b.dst, "D/f", data)
		wantAlike(t, filepath.Join(b.src, "d"), filepath.Join(b.dst, "D"), time.Nanosecond)
		wantNoRest(t, b.dst)
		b.wantExactEvents()
		if want := int64(len(data) + 4096); sum.Sent > want {
			t.Errorf("%s: %d bytes were sent, want at most %d", end.name, sum.Sent, want)
		}
	}
}

// The answer to a Put is lost after it was done: it is not done again, and with
// --overwrite=never not taken for somebody else's.
func TestLostAnswerToAPut(t *testing.T) {
	for _, set := range []func(*Options){func(*Options) {}, never, checksum} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t).as(end{to: true, able: true})
			data := bytesOf(8, 1000)
			write(t, b.src, "f", data)
			o := options()
			set(&o)
			b.to.at = loseOp("put", 1, after)
			sum := b.must(o, "f", "f")
			b.wantDone(data)
			if n := b.to.count("put"); n != 1 || sum.Files != 1 || sum.Skipped != 0 {
				t.Errorf("%d puts, %+v; want one, and one file", n, sum)
			}
			b.wantExactEvents()
			if e := told[Finished](&b.log)[0]; e.Verified == "" || !e.HasDigest || e.Transport != "tcp" {
				t.Errorf("finished %+v, want how it was checked", e)
			}
		})
	}
}

func TestExtendedAttributes(t *testing.T) {
	list := []tree.Xattr{{Name: "user.a", Value: []byte("1")}}
	for _, tt := range []struct {
		name     string
		from, to error // what both ends say of them
		old      bool
		hints    int
		gets     bool
	}{
		{"both can", nil, nil, false, 0, true},
		{"the source cannot", errors.ErrUnsupported, nil, false, 1, false},
		{"the destination cannot", nil, errors.ErrUnsupported, false, 1, false},
	} {
		for _, size := range []int{100, 2 * mib} {
			from := &attributed{b: newBench(t).as(end{able: true}), list: list, read: tt.from, write: tt.to}
			write(t, from.b.src, "d/f", bytesOf(1, size))
			write(t, from.b.src, "d/g", bytesOf(1, size))
			o := options()
			o.Preserve.Xattrs = true
			o.Events = from.b.log.add
			sum, err := Copy(t.Context(), place(from.sink(), "", "D"), []Place{place(from.source(), "", "d")}, o)
			if err != nil || sum.Files != 2 {
				t.Fatalf("%s: copy = %+v, %v", tt.name, sum, err)
			}
			if hints := told[Hint](&from.b.log); len(hints) != tt.hints {
				t.Errorf("%s: told %v, want %d hints", tt.name, hints, tt.hints)
			}
			// Two files, and the directory.
			if got := int(from.got.Load()); got != 3 && tt.gets || got != 0 && !tt.gets {
				t.Errorf("%s: %d copies got attributes", tt.name, got)
			}
			wantAlike(t, filepath.Join(from.b.src, "d"), filepath.Join(from.b.dst, "D"), time.Nanosecond)
			wantNoRest(t, from.b.dst)
			from.b.wantExactEvents()
		}
	}
}

// A file that has grown when the answer to its Put is lost is no reason to go on
// without extended attributes.
func TestAttributesOfAFileThatGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := &attributed{b: newBench(t).as(end{able: true}), list: []tree.Xattr{{Name: "user.a", Value: []byte("1")}}}
		b := from.b
		write(t, b.src, "d/f", bytesOf(1, 100))
		data := bytesOf(2, 2*ableLimit)
		b.to.at = func(c call) fault {
			if c.op == "put" && c.path.Base() == "f" {
				write(t, b.src, "d/f", data)
				return fault{before: tree.ErrLost}
			}
			return fault{}
		}
		o := options()
		o.Preserve.Xattrs = true
		o.Events = b.log.add
		sum, err := Copy(t.Context(), place(from.sink(), "", "D"), []Place{place(from.source(), "", "d")}, o)
		if err != nil || sum.Files != 1 {
			t.Fatalf("copy = %+v, %v", sum, err)
		}
		wantFile(t, b.dst, "D/f", data)
		if hints := told[Hint](&b.log); len(hints) != 0 {
			t.Errorf("told %v", hints)
		}
		if got := from.got.Load(); got != 3 { // the lost Put, the file and its directory
			t.Errorf("%d copies got attributes, want 3", got)
		}
	})
}
