//go:build linux

package store

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"transferd/internal/tree"
	"transferd/internal/tree/treetest"
)

// lacking makes the store behave as on a filesystem or kernel without what is
// named.
func lacking(s *Store, what string) {
	sys := &s.hub.sys
	switch what {
	case "openat2":
		sys.openBeneath = func(int, string) (int, error) { return -1, unix.ENOSYS }
	case "renameat2":
		sys.renameNoReplace = func(*dir, string, *dir, string) error { return unix.ENOTSUP }
	case "hard links":
		sys.link = func(*dir, string, *dir, string) error { return unix.EPERM }
	case "flock":
		sys.lock = func(*os.File, bool) error { return unix.ENOTSUP }
	case "fallocate":
		sys.preallocate = func(*os.File, int64) error { return unix.ENOTSUP }
		sys.punch = func(*os.File, tree.Extent) error { return unix.ENOTSUP }
	case "SEEK_HOLE":
		sys.extents = func(*os.File, int64) ([]tree.Extent, error) { return nil, unix.ENOTSUP }
	case "O_TMPFILE":
		sys.makeTemp = func(*dir, tree.Perm) (int, error) { return -1, unix.ENOTSUP }
	case "syncfs":
		sys.syncFS = func(*dir) error { return unix.ENOSYS }
	case "directory fsync":
		sys.syncDir = func(*dir) error { return unix.EINVAL }
	}
}

// TestFallbacks runs the whole suite without each of what filesystems lack, and
// without all of it.
func TestFallbacks(t *testing.T) {
	all := []string{"openat2", "renameat2", "hard links", "flock", "fallocate", "SEEK_HOLE", "directory fsync", "O_TMPFILE", "syncfs"}
	for _, test := range append([][]string{all}, func() (each [][]string) {
		for _, what := range all {
			each = append(each, []string{what})
		}
		return each
	}()...) {
		name, limits := test[0], treetest.Limits{}
		if len(test) > 1 {
			name = "all"
		}
		for _, what := range test {
			limits.NoHoles = limits.NoHoles || what == "SEEK_HOLE"
			limits.NoLinks = limits.NoLinks || what == "hard links"
		}
		open := func(t *testing.T) *Store {
			s, _ := openTemp(t, Options{})
			for _, what := range test {
				lacking(s, what)
			}
			return s
		}
		t.Run(name, func(t *testing.T) {
			treetest.RunLimited(t, limits, func(t *testing.T) tree.Sink { return open(t) })
			treetest.RunFSLimited(t, limits, func(t *testing.T) tree.FS { return open(t) })
		})
	}
}

// TestNoLocks: where the filesystem has no locks, the process that the journal
// names is looked for.
func TestNoLocks(t *testing.T) {
	s, path := openTemp(t, Options{})
	s.hub.tuning.lockWait, s.hub.tuning.lockPoll = 20e6, 1e6
	lacking(s, "flock")
	cmd, out, in := command(t, path, "hold")
	if !out.Scan() {
		t.Fatal("the child does not hold the upload")
	}
	u, data := killUpload()
	if _, err := s.Begin(t.Context(), u); !errors.Is(err, tree.ErrBusy) {
		t.Errorf("Begin of what a living process holds = %v, want ErrBusy", err)
	}
	_ = in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	treetest.Put(t, s, u.Path, data)
}

func TestUnescapeMount(t *testing.T) {
	for in, want := range map[string]string{`/mnt/a\040b`: "/mnt/a b", `/x\134y`: `/x\y`, `/end\04`: `/end\04`, "/": "/"} {
		if got := unescapeMount(in); got != want {
			t.Errorf("unescapeMount(%q) = %q, want %q", in, got, want)
		}
	}
}
