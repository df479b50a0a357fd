//go:build unix

package transfer

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"transferd/internal/tree"
)

func symlink(t *testing.T, target string, path ...string) {
	t.Helper()
	name := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, name); err != nil {
		t.Fatal(err)
	}
}

// failures returns the paths that failed, and why in short.
func (b *bench) failures() map[string]error {
	m := map[string]error{}
	for _, e := range told[Failed](&b.log) {
		m[e.Path] = e.Err
	}
	return m
}

// wantFailed wants a PartialError of exactly these files.
func (b *bench) wantFailed(err error, want map[string]error) {
	b.t.Helper()
	partial := new(PartialError)
	if !errors.As(err, &partial) || partial.Failed != int64(len(want)) {
		b.t.Errorf("copy = %v, want %d failures", err, len(want))
	}
	got := b.failures()
	for path, cause := range want {
		if !errors.Is(got[path], cause) {
			b.t.Errorf("%s failed with %v, want %v", path, got[path], cause)
		}
	}
	if len(got) != len(want) || len(told[Failed](&b.log)) != len(want) {
		b.t.Errorf("failed: %v, want %d", got, len(want))
	}
}

func TestSymlinksStaySymlinks(t *testing.T) {
	for _, end := range ends {
		b := newBench(t).as(end)
		write(t, b.src, "d/f", []byte("data"))
		symlink(t, "f", b.src, "d/relative")
		symlink(t, "/etc/passwd", b.src, "d/absolute")
		symlink(t, "../../..", b.src, "d/out")
		symlink(t, "nowhere", b.src, "d/dangling")
		symlink(t, ".", b.src, "d/loop")
		o := options()
		o.NoTargetDir = true
		b.must(o, "d", "D")
		wantAlike(t, filepath.Join(b.src, "d"), filepath.Join(b.dst, "D"), end.grain)
		// Again: all there. One leads elsewhere by now, one has another time.
		b.heal()
		if sum := b.must(o, "d", "D"); sum.Files != 0 {
			t.Errorf("%s: a second run made %d files", end.name, sum.Files)
		}
		if err := os.Remove(filepath.Join(b.src, "d/dangling")); err != nil {
			t.Fatal(err)
		}
		symlink(t, "f", b.src, "d/dangling")
		late := unix.NsecToTimeval(moment(50).UnixNano())
		if err := unix.Lutimes(filepath.Join(b.src, "d/loop"), []unix.Timeval{late, late}); err != nil {
			t.Fatal(err)
		}
		b.heal()
		if sum := b.must(o, "d", "D"); sum.Files != 1 {
			t.Errorf("%s: the third run made %d files, want 1", end.name, sum.Files)
		}
		wantAlike(t, filepath.Join(b.src, "d"), filepath.Join(b.dst, "D"), end.grain)
		wantNoRest(t, b.dst)
	}
}

func TestSymlinkOperandIsFollowed(t *testing.T) {
	b := newBench(t)
	write(t, b.src, "d/f", []byte("data"))
	symlink(t, "d", b.src, "link")
	symlink(t, "d/f", b.src, "file")
	b.must(options(), "link", "D")
	b.must(options(), "file", "F")
	wantAlike(t, filepath.Join(b.src, "d"), filepath.Join(b.dst, "D"), time.Nanosecond)
	wantFile(t, b.dst, "F", []byte("data"))
}

func TestWhatIsInTheWay(t *testing.T) {
	for _, end := range ends {
		b := newBench(t).as(end)
		write(t, b.src, "d/file", []byte("data"))
		write(t, b.src, "d/dir/f", []byte("data"))
		write(t, b.src, "d/ok", []byte("data"))
		write(t, b.src, "d/over link", []byte("data"))
		write(t, b.src, "d/dir2/f", []byte("data"))
		symlink(t, "ok", b.src, "d/link")
		symlink(t, "ok", b.src, "d/link2")
		write(t, b.dst, "D/d/file/there", []byte("there"))
		write(t, b.dst, "D/d/dir", []byte("there"))
		write(t, b.dst, "D/d/link/there", []byte("there"))
		write(t, b.dst, "D/d/link2", []byte("there"))
		write(t, b.dst, "outside", []byte("outside"))
		if err := os.Mkdir(filepath.Join(b.dst, "outdir"), 0o755); err != nil {
			t.Fatal(err)
		}
		symlink(t, "../../outside", b.dst, "D/d/over link")
		symlink(t, "../../outdir", b.dst, "D/d/dir2")
		_, err := b.copy(t.Context(), options(), "d", "D")
		b.wantFailed(err, map[string]error{
			"d/file": tree.ErrIsDir, "d/dir": tree.ErrNotDir, "d/link": tree.ErrIsDir, "d/dir2": tree.ErrNotDir,
		})
		for path, want := range map[string]string{
			"D/d/file/there": "there", "D/d/dir": "there", "D/d/link/there": "there",
			"D/d/ok": "data", "D/d/over link": "data", "outside": "outside",
		} {
			wantFile(t, b.dst, path, []byte(want))
		}
		if link, err := os.Readlink(filepath.Join(b.dst, "D/d/link2")); err != nil || link != "ok" {
			t.Errorf("%s: link2 = %q, %v", end.name, link, err)
		}
		if in, err := os.ReadDir(filepath.Join(b.dst, "outdir")); err != nil || len(in) > 0 {
			t.Errorf("%s: a symlink was followed: %v, %v", end.name, in, err)
		}
		wantNoRest(t, b.dst)
	}
}

// A directory comes where a file should go, and the reverse, after the engine
// has looked.
func TestWhatComesInTheWay(t *testing.T) {
	b := newBench(t)
	write(t, b.src, "d/file", bytesOf(1, 100))
	write(t, b.src, "d/large", bytesOf(2, 2*mib))
	write(t, b.src, "d/dir/f", []byte("data"))
	write(t, b.src, "d/ok", []byte("data"))
	b.to.at = func(c call) fault {
		var err error
		switch {
		case c.op == "begin" && c.path == "D/file", c.op == "commit" && c.path == "D/large":
			err = os.Mkdir(filepath.Join(b.dst, c.path.String()), 0o755)
		case c.op == "mkdir" && c.path == "D/dir":
			err = os.WriteFile(filepath.Join(b.dst, "D/dir"), []byte("there"), 0o600)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			t.Error(err)
		}
		return fault{}
	}
	_, err := b.copy(t.Context(), options(), "d", "D")
	partial := new(PartialError)
	// The directory behind the file that came fails with all that is in it.
	if got := b.failures(); !errors.As(err, &partial) || got["d/file"] == nil || got["d/large"] == nil || got["d/dir/f"] == nil {
		t.Errorf("copy = %v, failed %v", err, got)
	}
	wantFile(t, b.dst, "D/ok", []byte("data"))
	wantFile(t, b.dst, "D/dir", []byte("there"))
}

func TestFollowStopsAtCircles(t *testing.T) {
	for _, end := range ends {
		b := newBench(t).as(end)
		write(t, b.src, "d/f", []byte("data"))
		write(t, b.src, "other/g", []byte("more"))
		symlink(t, "f", b.src, "d/link")
		symlink(t, "../other", b.src, "d/dir")
		symlink(t, "../other", b.src, "d/dir2") // twice, but no circle
		symlink(t, ".", b.src, "d/self")
		symlink(t, "../..", b.src, "d/sub/up")
		symlink(t, "nowhere", b.src, "d/dangling")
		o := options()
		o.Follow = true
		_, err := b.copy(t.Context(), o, "d", "D")
		if partial := new(PartialError); !errors.As(err, &partial) || partial.Failed > 40 {
			t.Errorf("%s: copy = %v, want some failures", end.name, err)
		}
		got := b.failures()
		if !errors.Is(got["d/dangling"], fs.ErrNotExist) {
			t.Errorf("%s: dangling = %v", end.name, got["d/dangling"])
		}
		for path := range got {
			if strings.Count(path, "self") > 2 || strings.Count(path, "up") > 2 {
				t.Errorf("%s: the walk went round until %s", end.name, path)
			}
		}
		for path, want := range map[string]string{"D/f": "data", "D/link": "data", "D/dir/g": "more", "D/dir2/g": "more"} {
			wantFile(t, b.dst, path, []byte(want))
			if info, err := os.Lstat(filepath.Join(b.dst, filepath.Dir(path))); err != nil || !info.IsDir() {
				t.Errorf("%s: %s is no directory: %v", end.name, path, err)
			}
		}
	}
}

func TestSpecialFilesFailAndOthersGoOn(t *testing.T) {
	for _, end := range ends {
		b := newBench(t).as(end)
		write(t, b.src, "d/a", []byte("data"))
		write(t, b.src, "d/secret", []byte("data"))
		write(t, b.src, "d/closed/f", []byte("data"))
		write(t, b.src, "d/z/f", []byte("data"))
		if err := unix.Mkfifo(filepath.Join(b.src, "d/fifo"), 0o644); err != nil {
			t.Fatal(err)
		}
		b.from.at = func(c call) fault {
			if (c.op == "open" || c.op == "get") && c.path == "d/secret" || c.op == "list" && c.path == "d/closed" {
				return fault{before: fs.ErrPermission}
			}
			return fault{}
		}
		sum, err := b.copy(t.Context(), options(), "d", "D")
		b.wantFailed(err, map[string]error{
			"d/fifo": tree.ErrNotRegular, "d/secret": fs.ErrPermission, "d/closed": fs.ErrPermission,
		})
		if sum.Files != 2 || sum.Failed != 3 {
			t.Errorf("%s: %+v, want 2 files and 3 failures", end.name, sum)
		}
		wantFile(t, b.dst, "D/a", []byte("data"))
		wantFile(t, b.dst, "D/z/f", []byte("data"))
		// As an operand too, without blocking.
		b.heal()
		_, err = b.copy(t.Context(), options(), "d/fifo", "d/a", "D/")
		b.wantFailed(err, map[string]error{"d/fifo": tree.ErrNotRegular})
	}
}

func TestFatalErrorIsToldOnce(t *testing.T) {
	b := newBench(t)
	write(t, b.src, "d/1/2/3/4/f", []byte("data"))
	b.to.at = func(c call) fault {
		if c.op == "mkdir" && c.path == "D/1/2/3" {
			return fault{before: tree.ErrNoSpace}
		}
		return fault{}
	}
	sum, err := b.copy(t.Context(), options(), "d", "D")
	if !errors.Is(err, tree.ErrNoSpace) || errors.As(err, new(*PartialError)) {
		t.Errorf("copy = %v, want a full disk", err)
	}
	if got := told[Failed](&b.log); len(got) != 1 || sum.Failed != 1 {
		t.Errorf("%+v, failed %v, want one", sum, got)
	}
}

func TestADirectoryIsNotCopiedIntoItself(t *testing.T) {
	for _, remote := range []bool{false, true} {
		b := newBench(t).remote(remote, false)
		write(t, b.dst, "d/f", []byte("data"))
		write(t, b.dst, "d/sub/g", []byte("data"))
		symlink(t, "d", b.dst, "same")
		symlink(t, "d/sub", b.dst, "deep")
		if err := os.Mkdir(filepath.Join(b.dst, "d/sub/d"), 0o755); err != nil {
			t.Fatal(err)
		}
		source := b.from.around(openStore(t, b.dst))
		names := []string{"d", "d/", "d/new", "d/sub", "same", "same/", "same/new", "deep", "deep/", "deep/new"}
		host := ""
		if remote {
			// Only the mark of a new copy gives it away.
			names = []string{"d", "d/", "d/new", "same/new", "deep/new"}
			host = "this machine by another name"
		}
		for _, to := range names {
			o := options()
			_, err := Copy(t.Context(), place(b.sink, "", to), []Place{place(source, host, "d")}, o)
			if !errors.As(err, new(*UsageError)) {
				t.Errorf("remote %v: copy of d to %s = %v, want a usage error", remote, to, err)
			}
		}
		deepest := 0
		for path := range snapshot(t, b.dst, time.Second) {
			deepest = max(deepest, strings.Count(path, "/"))
		}
		if deepest > 6 {
			t.Errorf("remote %v: directories are %d deep", remote, deepest)
		}
	}
}
