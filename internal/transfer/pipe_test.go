//go:build unix

package transfer

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDevicesAndPipesGetEveryByte(t *testing.T) {
	b := newBench(t)
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	// With holes, which a pipe has not.
	sparseFile(t, filepath.Join(b.src, "f"), 14*mib, map[int64]string{5 * mib: "data", 14*mib - 1: "x"})
	data := read(t, b.src, "f")
	for _, end := range ends {
		b.heal()
		b.remote(end.from, false)
		for name, copyTo := range map[string]func(Place) error{
			"Copy": func(dst Place) error {
				_, err := Copy(t.Context(), dst, []Place{place(b.source, "source", "f")}, options())
				return err
			},
			"WriteFrom": func(dst Place) error {
				_, err := WriteFrom(t.Context(), dst, bytes.NewReader(data), options())
				return err
			},
		} {
			got := make(chan []byte, 1)
			go func() {
				all, err := os.ReadFile(fifo)
				if err != nil {
					t.Error(err)
				}
				got <- all
			}()
			if err := copyTo(hostPlace(t, fifo)); err != nil {
				t.Fatalf("%s to a FIFO = %v", name, err)
			}
			if !bytes.Equal(<-got, data) {
				t.Errorf("%s: the FIFO gave something else", name)
			}
			if err := copyTo(hostPlace(t, os.DevNull)); err != nil {
				t.Errorf("%s to %s = %v", name, os.DevNull, err)
			}
		}
	}
}

func TestWriteFromZerosMakesHoles(t *testing.T) {
	b := newBench(t)
	data := append(make([]byte, 3*mib), "end"...)
	sum, err := WriteFrom(t.Context(), place(b.sink, "", "f"), bytes.NewReader(data), options())
	if err != nil || sum.Sent > 4096 {
		t.Errorf("WriteFrom = %+v, %v", sum, err)
	}
	b.wantDone(data)
	if got := blocks(t, filepath.Join(b.dst, "f")); got > 64<<10 {
		t.Errorf("%d bytes of the disk are used", got)
	}
}

// In place the old bytes lie where the holes of the new file are.
func TestHolesInPlace(t *testing.T) {
	for _, end := range ends {
		for _, size := range []int64{1000, 3 * mib, 9*mib + 1} {
			b := newBench(t).as(end)
			sparseFile(t, filepath.Join(b.src, "f"), size, map[int64]string{size / 2: "data"})
			write(t, b.dst, "f", bytesOf(3, 6*mib))
			before, err := os.Stat(filepath.Join(b.dst, "f"))
			if err != nil {
				t.Fatal(err)
			}
			o := options()
			o.InPlace = true
			b.must(o, "f", "f")
			b.wantDone(read(t, b.src, "f"))
			now, err := os.Stat(filepath.Join(b.dst, "f"))
			if err != nil || !os.SameFile(before, now) {
				t.Errorf("%s: the file is another one now: %v", end.name, err)
			}
		}
	}
}
