package transfer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"lukechampine.com/blake3"

	"transferd/internal/tree"
)

// sizesOfInterest surround the chunks that streams are cut into.
func sizesOfInterest() []int {
	return []int{0, 1, mib - 1, mib, mib + 1, 2 * mib, 12*mib + 5, 16 * mib}
}

func TestReadToAndSum(t *testing.T) {
	for _, end := range ends {
		for _, size := range sizesOfInterest() {
			b := newBench(t).as(end)
			data := bytesOf(1, size)
			write(t, b.src, "f", data)
			var got bytes.Buffer
			n, err := ReadTo(t.Context(), &got, place(b.source, "", "f"), options())
			if err != nil || n != int64(size) || !bytes.Equal(got.Bytes(), data) {
				t.Errorf("ReadTo of %d bytes = %d, %v; they are right: %v", size, n, err, bytes.Equal(got.Bytes(), data))
			}
			if sum, err := Sum(t.Context(), place(b.source, "", "f")); err != nil || sum != blake3.Sum256(data) {
				t.Errorf("Sum of %d bytes = %v, %v", size, sum, err)
			}
		}
	}
}

func TestReadToFails(t *testing.T) {
	b := newBench(t)
	write(t, b.src, "f", bytesOf(1, 20*mib))
	write(t, b.src, "d/f", nil)
	from := place(b.source, "", "f")
	full := errors.New("pipe is closed")
	broken := &limitedWriter{limit: 5*mib + 3, err: full}
	if n, err := ReadTo(t.Context(), broken, from, options()); !errors.Is(err, full) || n != 5*mib+3 {
		t.Errorf("ReadTo a pipe that closes = %d, %v, want %d, %v", n, err, 5*mib+3, full)
	}
	if n, err := ReadTo(t.Context(), &limitedWriter{limit: 7}, from, options()); !errors.Is(err, io.ErrShortWrite) || n != 7 {
		t.Errorf("ReadTo a writer that takes less = %d, %v", n, err)
	}
	if _, err := ReadTo(t.Context(), io.Discard, place(b.source, "", "d"), options()); !errors.Is(err, tree.ErrNotRegular) {
		t.Errorf("ReadTo of a directory = %v", err)
	}
	if _, err := ReadTo(t.Context(), io.Discard, place(b.source, "", "no"), options()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadTo of nothing = %v", err)
	}
	bad := errors.New("bad sector")
	n := 0
	b.from.at = func(c call) fault {
		if c.op == "read" {
			if n++; n == 7 {
				return fault{before: bad}
			}
		}
		return fault{}
	}
	var got bytes.Buffer
	if _, err := ReadTo(t.Context(), &got, from, options()); !errors.Is(err, bad) || !bytes.HasPrefix(bytesOf(1, 20*mib), got.Bytes()) {
		t.Errorf("ReadTo with a bad sector = %v, %d bytes", err, got.Len())
	}
	n = 0
	if _, err := Sum(t.Context(), from); !errors.Is(err, bad) {
		t.Errorf("Sum with a bad sector = %v", err)
	}
	b.heal()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if n, err := ReadTo(ctx, io.Discard, place(b.source, "", "f"), options()); !errors.Is(err, context.Canceled) || n != 0 {
		t.Errorf("ReadTo that is canceled = %d, %v", n, err)
	}
}

// What a reader calls the end of a file is held against its size.
func TestAFileThatEndsTooEarly(t *testing.T) {
	b := newBench(t).remote(true, false)
	write(t, b.src, "f", bytesOf(1, 3*mib))
	for _, size := range []int64{3*mib + 1, 30 * mib} {
		from := place(sized{b.source, size}, "source", "f")
		if n, err := ReadTo(t.Context(), io.Discard, from, options()); !errors.Is(err, tree.ErrSourceChanged) {
			t.Errorf("ReadTo of %d bytes of %d = %v", n, size, err)
		}
		if _, err := Sum(t.Context(), from); !errors.Is(err, tree.ErrSourceChanged) {
			t.Errorf("Sum of a file that ends too early = %v", err)
		}
		if _, err := Copy(t.Context(), place(b.sink, "", "f"), []Place{from}, options()); !errors.Is(err, tree.ErrSourceChanged) {
			t.Errorf("Copy of a file that ends too early = %v", err)
		}
	}
}

// limitedWriter takes limit bytes and then fails with err, or takes no more.
type limitedWriter struct {
	limit int
	err   error
}

func (w *limitedWriter) Write(p []byte) (int, error) {
	if len(p) <= w.limit {
		w.limit -= len(p)
		return len(p), nil
	}
	n := w.limit
	w.limit = 0
	return n, w.err
}

func TestReadToGoesOnAfterALostConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t).remote(true, false)
		data := bytesOf(1, 20*mib+9)
		write(t, b.src, "f", data)
		n := 0
		b.from.at = func(c call) fault {
			if c.op == "read" {
				if n++; n%9 == 0 {
					return fault{before: tree.ErrLost}
				}
			}
			return fault{}
		}
		o := options()
		o.Retries = 2
		var got bytes.Buffer
		if _, err := ReadTo(t.Context(), &got, place(b.source, "", "f"), o); err != nil || !bytes.Equal(got.Bytes(), data) {
			t.Errorf("ReadTo = %v, %d bytes", err, got.Len())
		}
		// Not if it is another file by now.
		n = 0
		w := writerFunc(func(p []byte) (int, error) {
			write(t, b.src, "f", bytesOf(2, 30*mib))
			return len(p), nil
		})
		if _, err := ReadTo(t.Context(), w, place(b.source, "", "f"), o); !errors.Is(err, tree.ErrSourceChanged) {
			t.Errorf("ReadTo of a file that changed = %v", err)
		}
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestWriteFrom(t *testing.T) {
	for _, end := range ends {
		for _, size := range sizesOfInterest() {
			b := newBench(t).as(end)
			data := bytesOf(1, size)
			o := options()
			o.Events = b.log.add
			// A pipe gives what it has, not what is asked for.
			sum, err := WriteFrom(t.Context(), place(b.sink, "", "f"), iotest.HalfReader(bytes.NewReader(data)), o)
			if err != nil || sum.Sent != int64(size) || sum.Files != 1 {
				t.Fatalf("WriteFrom of %d bytes = %+v, %v", size, sum, err)
			}
			b.wantDone(data)
			e := told[Finished](&b.log)
			if len(e) != 1 || e[0].Digest != blake3.Sum256(data) || e[0].Size != int64(size) {
				t.Errorf("WriteFrom of %d bytes finished %+v", size, e)
			}
			if info, err := os.Stat(filepath.Join(b.dst, "f")); err != nil || info.Mode().Perm() != 0o644 {
				t.Errorf("mode %v, %v, want 0644", info.Mode(), err)
			}
			b.wantExactEvents()
		}
	}
}

func TestWriteFromOverWhatIsThere(t *testing.T) {
	b := newBench(t)
	write(t, b.dst, "old", []byte("old"))
	if err := os.Chmod(filepath.Join(b.dst, "old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(b.dst, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	o := options()
	never(&o)
	unread := writerTo{t}
	if sum, err := WriteFrom(t.Context(), place(b.sink, "", "old"), unread, o); err != nil || sum.Skipped != 1 {
		t.Errorf("WriteFrom that may not overwrite = %+v, %v", sum, err)
	}
	for name, want := range map[string]error{"d": tree.ErrIsDir, "d/": tree.ErrIsDir, "new/": tree.ErrNotDir, "no/such": fs.ErrNotExist} {
		if _, err := WriteFrom(t.Context(), place(b.sink, "", name), unread, options()); !errors.Is(err, want) {
			t.Errorf("WriteFrom to %s = %v, want %v", name, err, want)
		}
	}
	dry := options()
	dry.DryRun = true
	if _, err := WriteFrom(t.Context(), place(b.sink, "", "new"), unread, dry); !errors.As(err, new(*UsageError)) {
		t.Errorf("dry run of WriteFrom = %v", err)
	}
	if _, err := WriteFrom(t.Context(), place(b.sink, "", "old"), bytes.NewReader([]byte("new")), options()); err != nil {
		t.Error(err)
	}
	wantFile(t, b.dst, "old", []byte("new"))
	if info, err := os.Stat(filepath.Join(b.dst, "old")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want that of the old file", info.Mode(), err)
	}
}

// writerTo is a reader that nobody may read.
type writerTo struct{ t *testing.T }

func (r writerTo) Read([]byte) (int, error) {
	r.t.Error("the stream was read for nothing")
	return 0, io.EOF
}

func TestWriteFromFails(t *testing.T) {
	bad := errors.New("the program before the pipe died")
	for _, tt := range []struct {
		name string
		r    func() io.Reader
		op   string
		want error
	}{
		{"the stream at once", func() io.Reader { return iotest.ErrReader(bad) }, "", bad},
		{"the stream later", func() io.Reader {
			return io.MultiReader(bytes.NewReader(bytesOf(1, 5*mib+7)), iotest.ErrReader(bad))
		}, "", bad},
		{"the stream between two chunks", func() io.Reader {
			return io.MultiReader(bytes.NewReader(bytesOf(1, 5*mib)), iotest.ErrReader(bad))
		}, "", bad},
		{"a write", func() io.Reader { return bytes.NewReader(bytesOf(1, 20*mib)) }, "write", tree.ErrNoSpace},
		{"the commit", func() io.Reader { return bytes.NewReader(bytesOf(1, 2*mib)) }, "commit", tree.ErrNoSpace},
	} {
		b := newBench(t)
		write(t, b.dst, "f", []byte("old"))
		b.to.at = func(c call) fault {
			if c.op == tt.op {
				return fault{before: tree.ErrNoSpace}
			}
			return fault{}
		}
		o := options()
		o.Events = b.log.add
		_, err := WriteFrom(t.Context(), place(b.sink, "", "f"), tt.r(), o)
		if !errors.Is(err, tt.want) || errors.Is(err, context.Canceled) {
			t.Errorf("%s fails: WriteFrom = %v, want %v", tt.name, err, tt.want)
		}
		if got := told[Failed](&b.log); len(got) != 1 {
			t.Errorf("%s fails: told %v, want it once", tt.name, got)
		}
		b.heal() // a Commit that fails by the test's hand has not ended its Writer
		wantFile(t, b.dst, "f", []byte("old"))
		wantNoRest(t, b.dst)
	}
}
