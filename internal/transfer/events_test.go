package transfer

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"transferd/internal/tree"
)

// wantExactEvents holds what the copy told against itself: totals found are
// those done, and everything that began came to one end. Nothing may have
// failed.
func (b *bench) wantExactEvents() {
	b.t.Helper()
	found := told[Found](&b.log)
	last := found[len(found)-1]
	started := map[int64]Started{}
	for _, e := range told[Started](&b.log) {
		if _, again := started[e.ID]; again {
			b.t.Errorf("%s was started twice", e.Path)
		}
		started[e.ID] = e
	}
	moved := map[int64]int64{}
	var bytes, files int64
	for _, e := range told[Moved](&b.log) {
		if _, ok := started[e.ID]; !ok || e.Bytes <= 0 {
			b.t.Errorf("%+v of a file that was not started, or of nothing", e)
		}
		moved[e.ID] += e.Bytes
		bytes += e.Bytes
	}
	ends := map[int64]bool{}
	for _, e := range told[Finished](&b.log) {
		if ends[e.ID] {
			b.t.Errorf("%s was finished twice", e.Path)
		}
		ends[e.ID] = true
		if _, ok := started[e.ID]; !ok {
			bytes += e.Size
		}
		if e.Status == Copied || e.Status == Skipped || e.Status == HardLinked {
			files++
		}
		if m := moved[e.ID]; e.Status == Copied && m < e.Size {
			b.t.Errorf("%s has %d bytes, %d were told", e.Path, e.Size, m)
		}
	}
	for id, e := range started {
		if !ends[id] {
			b.t.Errorf("%s never finished", e.Path)
		}
	}
	if failed := told[Failed](&b.log); len(failed) > 0 {
		b.t.Errorf("failed: %v", failed)
	}
	if !last.Complete || last.Bytes != bytes || last.Files != files {
		b.t.Errorf("found %+v in the end, done were %d bytes of %d files", last, bytes, files)
	}
	for i := 1; i < len(found); i++ {
		if found[i].Files < found[i-1].Files || found[i-1].Complete && !found[i].Complete {
			b.t.Errorf("found %+v and then %+v", found[i-1], found[i])
		}
	}
}

func TestEventsAddUp(t *testing.T) {
	for _, end := range ends {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t).as(end)
			write(t, b.src, "d/same", bytesOf(1, 1000))
			write(t, b.src, "d/empty", nil)
			write(t, b.src, "d/small", bytesOf(2, 5000))
			write(t, b.src, "d/large", bytesOf(3, 5*mib+1))
			write(t, b.src, "d/retried", bytesOf(4, 3*mib))
			write(t, b.src, "d/begun", bytesOf(5, 4*mib))
			sparseFile(t, filepath.Join(b.src, "d/sparse"), 6*mib+3, map[int64]string{2 * mib: "data"})
			o := options()
			o.Files = 3
			// One is there, one is begun.
			b.to.at = func(c call) fault {
				if c.op == "commit" && c.path != "D/d/same" {
					return fault{before: fs.ErrInvalid}
				}
				return fault{}
			}
			if err := os.Mkdir(filepath.Join(b.dst, "D"), 0o755); err != nil {
				t.Fatal(err)
			}
			_, _ = b.copy(t.Context(), o, "d", "D/")
			b.heal()
			n := 0
			b.to.at = func(c call) fault {
				if c.op == "write" && c.path == "D/d/retried" {
					if n++; n == 2 || n == 4 {
						return fault{before: tree.ErrLost}
					}
				}
				return fault{}
			}
			sum := b.must(o, "d", "D/")
			b.wantExactEvents()
			wantAlike(t, filepath.Join(b.src, "d"), filepath.Join(b.dst, "D/d"), end.grain)
			if sum.Files+sum.Skipped != 7 {
				t.Errorf("%s: %+v, want 7 files", end.name, sum)
			}
			var sent, resumed int64
			for _, e := range told[Finished](&b.log) {
				sent += e.Sent
				resumed += e.Resumed
			}
			if sent != sum.Sent || resumed != sum.Resumed {
				t.Errorf("%s: files sent %d and resumed %d, the summary says %d and %d", end.name, sent, resumed, sum.Sent, sum.Resumed)
			}
		})
	}
}

// sparseFile makes a file of size bytes that is a hole but for data.
func sparseFile(t *testing.T, path string, size int64, data map[int64]string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for at, text := range data {
		if _, err := f.WriteAt([]byte(text), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, moment(1), moment(2)); err != nil {
		t.Fatal(err)
	}
}
