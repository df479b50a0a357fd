package transfer

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"transferd/internal/tree"
)

func TestSkipRule(t *testing.T) {
	at := moment(1)
	for _, tt := range []struct {
		name     string
		there    string // contents of the destination; the source is "same data"
		mtime    time.Time
		set      func(*Options)
		upload   bool // to a tree of whole seconds
		want     Status
		wantData string
	}{
		{name: "same", there: "same data", mtime: at, want: Skipped},
		{name: "a nanosecond older", there: "same data", mtime: at.Add(-1), want: Copied},
		{name: "same second of a coarse tree", there: "same data", mtime: at.Add(1000), upload: true, want: Skipped},
		{name: "another second of a coarse tree", there: "same data", mtime: at.Add(time.Second), upload: true, want: Copied},
		{name: "another size", there: "same data!", mtime: at, want: Copied},
		{name: "same size and time, unlike", there: "SAME DATA", mtime: at, want: Skipped, wantData: "SAME DATA"},
		{name: "same size and time, unlike, by digest", there: "SAME DATA", mtime: at, set: checksum, want: Copied},
		{name: "newer, alike by digest", there: "same data", mtime: at.Add(time.Hour), set: checksum, want: Skipped},
		{name: "another size, by digest", there: "same", mtime: at, set: checksum, want: Copied},
		{name: "never, older", there: "old", mtime: at.Add(-time.Hour), set: never, want: Skipped, wantData: "old"},
		{name: "newer only, older there", there: "old", mtime: at.Add(-time.Hour), set: newer, want: Copied},
		{name: "newer only, newer there", there: "new", mtime: at.Add(time.Hour), set: newer, want: Skipped, wantData: "new"},
		{name: "newer only, same time", there: "new", mtime: at, set: newer, want: Skipped, wantData: "new"},
		{name: "newer only, same second", there: "new", mtime: at.Truncate(time.Second), set: newer, upload: true, want: Skipped, wantData: "new"},
	} {
		for _, depth := range []string{"operand", "tree"} {
			t.Run(tt.name+", "+depth, func(t *testing.T) {
				b := newBench(t).remote(false, tt.upload)
				write(t, b.src, "d/f", []byte("same data"))
				write(t, b.dst, "D/d/f", []byte(tt.there))
				for _, err := range []error{
					os.Chtimes(filepath.Join(b.src, "d/f"), at, at),
					os.Chtimes(filepath.Join(b.dst, "D/d/f"), tt.mtime, tt.mtime),
				} {
					if err != nil {
						t.Fatal(err)
					}
				}
				o := options()
				if tt.set != nil {
					tt.set(&o)
				}
				args := []string{"d", "D"}
				if depth == "operand" {
					args = []string{"d/f", "D/d"}
				}
				before := snapshot(t, b.dst, time.Nanosecond)
				dry := o
				dry.DryRun = true
				b.must(dry, args...)
				planned := told[Finished](&b.log)
				if diff := cmp.Diff(before, snapshot(t, b.dst, time.Nanosecond)); diff != "" {
					t.Errorf("a dry run changed something (-before +after):\n%s", diff)
				}
				if len(planned) != 1 || (planned[0].Status == Skipped) != (tt.want == Skipped) {
					t.Errorf("a dry run plans %+v, want %s", planned, tt.want)
				}
				b.heal()
				b.must(o, args...)
				if got := told[Finished](&b.log); len(got) != 1 || got[0].Status != tt.want {
					t.Errorf("finished %+v, want %s", got, tt.want)
				}
				want := tt.wantData
				if want == "" {
					want = "same data"
				}
				wantFile(t, b.dst, "D/d/f", []byte(want))
				if tt.want == Copied || o.Checksum {
					grain := time.Nanosecond
					if tt.upload {
						grain = time.Second
					}
					info, err := os.Stat(filepath.Join(b.dst, "D/d/f"))
					if err != nil || !info.ModTime().Truncate(grain).Equal(at.Truncate(grain)) {
						t.Errorf("time of the copy = %v, %v, want %v", info.ModTime(), err, at)
					}
				}
				b.wantExactEvents()
			})
		}
	}
}

func checksum(o *Options) { o.Checksum = true }
func never(o *Options)    { o.Overwrite = OverwriteNever }
func newer(o *Options)    { o.Overwrite = OverwriteNewer }

func TestSkippedFilesGetTheirMode(t *testing.T) {
	for _, set := range []func(*Options){checksum, func(*Options) {}} {
		b := newBench(t)
		for i := range 40 {
			write(t, b.src, fmt.Sprintf("d/%d", i), []byte("data"))
		}
		o := options()
		set(&o)
		b.must(o, "d", "D")
		for i := range 40 {
			if err := os.Chmod(filepath.Join(b.src, fmt.Sprintf("d/%d", i)), 0o640); err != nil {
				t.Fatal(err)
			}
		}
		b.heal()
		o.NoTargetDir = true
		if sum := b.must(o, "d", "D"); sum.Files != 0 || sum.Skipped != 40 {
			t.Errorf("%+v, want everything skipped", sum)
		}
		wantAlike(t, filepath.Join(b.src, "d"), filepath.Join(b.dst, "D"), time.Nanosecond)
	}
}

// The mode of what a symlink leads to cannot be set by the symlink's name.
func TestSkippedFileBehindASymlink(t *testing.T) {
	b := newBench(t)
	write(t, b.src, "f", []byte("data"))
	write(t, b.dst, "real", []byte("data"))
	if err := os.Symlink("real", filepath.Join(b.dst, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(b.dst, "real"), 0o600); err != nil {
		t.Fatal(err)
	}
	if sum := b.must(options(), "f", "link"); sum.Skipped != 1 {
		t.Errorf("%+v, want it skipped", sum)
	}
}

func TestModesWithoutPreserve(t *testing.T) {
	b := newBench(t)
	write(t, b.src, "d/new", []byte("data"))
	write(t, b.src, "d/old", []byte("data"))
	write(t, b.src, "d/sub/f", []byte("data"))
	write(t, b.dst, "D/old", []byte("secret"))
	write(t, b.dst, "D/sub/g", []byte("data"))
	for path, mode := range map[string]os.FileMode{
		filepath.Join(b.src, "d/new"): 0o777, filepath.Join(b.src, "d/sub"): 0o777, filepath.Join(b.src, "d"): 0o777,
		filepath.Join(b.dst, "D/old"): 0o600, filepath.Join(b.dst, "D/sub"): 0o500, filepath.Join(b.dst, "D"): 0o700,
	} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	o := options()
	o.Preserve, o.NoTargetDir, o.Umask = Preserve{}, true, 0o027
	b.must(o, "d", "D")
	b.must(o, "d", "E")
	for path, want := range map[string]os.FileMode{
		"D/new": 0o750, "D/old": 0o600, "D/sub": 0o500, "D": 0o700, "E": 0o750, "E/sub": 0o750, "E/new": 0o750, "E/old": 0o640,
	} {
		info, err := os.Stat(filepath.Join(b.dst, path))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("mode of %s = %v, %v, want %v", path, info.Mode().Perm(), err, want)
		}
	}
}

// A file that another made meanwhile is not replaced, and that is no failure.
func TestNeverOverwriteWhatCameMeanwhile(t *testing.T) {
	b := newBench(t)
	write(t, b.src, "f", []byte("mine"))
	b.to.at = func(c call) fault {
		if c.op == "commit" {
			write(t, b.dst, "f", []byte("theirs"))
		}
		return fault{}
	}
	o := options()
	o.Overwrite = OverwriteNever
	if sum := b.must(o, "f", "f"); sum.Skipped != 1 || sum.Files != 0 {
		t.Errorf("%+v, want it skipped", sum)
	}
	b.wantDone([]byte("theirs"))
}

func TestChecksumIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t).remote(false, true)
		write(t, b.src, "f", bytesOf(1, 3*mib))
		write(t, b.dst, "f", bytesOf(1, 3*mib))
		n := 0
		b.to.at = func(c call) fault {
			if c.op == "read" {
				if n++; n == 2 {
					return fault{before: tree.ErrLost}
				}
			}
			return fault{}
		}
		o := options()
		o.Checksum = true
		if sum := b.must(o, "f", "f"); sum.Skipped != 1 {
			t.Errorf("%+v, want it skipped", sum)
		}
	})
}
