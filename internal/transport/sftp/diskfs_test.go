//go:build linux

package sftp

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"math"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"transferd/internal/tree"
)

// diskFS is the smallest tree.FS on a disk, for the tests of both ends. It
// confines nothing.
type diskFS struct{ root string }

func newDiskFS(t testing.TB) diskFS {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return diskFS{root}
}

// hostFS is the whole disk, as an unconfined server shows it.
func hostFS() diskFS { return diskFS{"/"} }

func (d diskFS) abs(p tree.Path) string { return d.root + "/" + p.String() }

func (d diskFS) Stat(_ context.Context, p tree.Path) (tree.Entry, error) {
	fi, err := os.Stat(d.abs(p))
	if err != nil {
		return tree.Entry{}, err
	}
	return entryOf(fi, p.Base()), nil
}

func (d diskFS) Lstat(_ context.Context, p tree.Path) (tree.Entry, error) {
	fi, err := os.Lstat(d.abs(p))
	if err != nil {
		return tree.Entry{}, err
	}
	e := entryOf(fi, p.Base())
	if e.Kind == tree.KindSymlink {
		e.Link, err = os.Readlink(d.abs(p))
	}
	return e, err
}

func entryOf(fi fs.FileInfo, name string) tree.Entry {
	st := fi.Sys().(*syscall.Stat_t)
	e := tree.Entry{
		Name: name, Kind: tree.KindOf(fi.Mode()), Size: fi.Size(), Perm: tree.PermOf(fi.Mode()),
		Mtime: fi.ModTime(), Atime: time.Unix(st.Atim.Unix()), Ctime: time.Unix(st.Ctim.Unix()),
		UID: st.Uid, GID: st.Gid, Nlink: uint64(st.Nlink), //nolint:unconvert // 32 bits on arm64
		Device: st.Dev, Inode: st.Ino, Grain: 1,
	}
	if u, err := user.LookupId(strconv.Itoa(int(e.UID))); err == nil {
		e.Owner = u.Username
	}
	if g, err := user.LookupGroupId(strconv.Itoa(int(e.GID))); err == nil {
		e.Group = g.Name
	}
	return e
}

func (d diskFS) List(ctx context.Context, p tree.Path) iter.Seq2[tree.Entry, error] {
	return func(yield func(tree.Entry, error) bool) {
		all, err := os.ReadDir(d.abs(p))
		if err != nil {
			yield(tree.Entry{}, err)
			return
		}
		for _, e := range all {
			if e, err := d.Lstat(ctx, p.Join(e.Name())); !yield(e, err) || err != nil {
				return
			}
		}
	}
}

func (d diskFS) Open(ctx context.Context, p tree.Path) (tree.Reader, error) {
	return d.OpenFile(ctx, p, tree.OpenRead, 0)
}

func (d diskFS) Mkdir(_ context.Context, p tree.Path, perm tree.Perm) error {
	return os.Mkdir(d.abs(p), perm.FileMode())
}

func (d diskFS) Symlink(_ context.Context, target string, p tree.Path) error {
	return os.Symlink(target, d.abs(p))
}

func (d diskFS) Link(_ context.Context, from, to tree.Path) error {
	return os.Link(d.abs(from), d.abs(to))
}

func (d diskFS) Rename(_ context.Context, from, to tree.Path, how tree.RenameMode) error {
	var flags uint
	if how == tree.RenameNoReplace {
		flags = unix.RENAME_NOREPLACE
	}
	return unix.Renameat2(unix.AT_FDCWD, d.abs(from), unix.AT_FDCWD, d.abs(to), flags)
}

func (d diskFS) Remove(_ context.Context, p tree.Path) error { return os.Remove(d.abs(p)) }

func (d diskFS) SetAttr(_ context.Context, p tree.Path, a tree.Attr) error {
	return setAttr(d.abs(p), a, unix.AT_SYMLINK_NOFOLLOW)
}

func setAttr(name string, a tree.Attr, follow int) error {
	var errs []error
	if a.Size != nil {
		errs = append(errs, os.Truncate(name, *a.Size))
	}
	if a.Owner != nil {
		errs = append(errs, os.Lchown(name, int(a.Owner.UID), int(a.Owner.GID)))
	}
	if a.Perm != nil {
		if fi, err := os.Lstat(name); follow != 0 && err == nil && fi.Mode()&fs.ModeSymlink != 0 {
			errs = append(errs, errors.ErrUnsupported)
		} else {
			errs = append(errs, os.Chmod(name, a.Perm.FileMode()))
		}
	}
	if a.Mtime != nil {
		times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(a.Mtime.UnixNano())}
		if a.Atime != nil {
			times[0] = unix.NsecToTimespec(a.Atime.UnixNano())
		}
		errs = append(errs, unix.UtimesNanoAt(unix.AT_FDCWD, name, times, follow))
	}
	return errors.Join(errs...)
}

func (d diskFS) StatFS(_ context.Context, p tree.Path) (tree.Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(d.abs(p), &st); err != nil {
		return tree.Space{}, err
	}
	b := uint64(st.Bsize)
	return tree.Space{
		BlockSize: b, Total: st.Blocks * b, Free: st.Bfree * b, Available: st.Bavail * b,
		Files: st.Files, FilesFree: st.Ffree, FilesAvail: st.Ffree, MaxName: uint64(st.Namelen),
	}, nil
}

func (d diskFS) OpenFile(_ context.Context, p tree.Path, flags tree.OpenFlags, perm tree.Perm) (tree.File, error) {
	mode := os.O_RDONLY
	switch {
	case flags&tree.OpenWrite != 0 && flags&tree.OpenRead != 0:
		mode = os.O_RDWR
	case flags&tree.OpenWrite != 0:
		mode = os.O_WRONLY
	}
	for ours, theirs := range map[tree.OpenFlags]int{
		tree.OpenCreate: os.O_CREATE, tree.OpenExclusive: os.O_EXCL, tree.OpenTruncate: os.O_TRUNC,
	} {
		if flags&ours != 0 {
			mode |= theirs
		}
	}
	f, err := os.OpenFile(d.abs(p), mode, perm.FileMode())
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err != nil || fi.IsDir() {
		return nil, errors.Join(err, tree.ErrIsDir, f.Close())
	}
	return &diskFile{File: f, append: flags&tree.OpenAppend != 0}, nil
}

type diskFile struct {
	*os.File
	append bool
	mu     sync.Mutex
}

func (f *diskFile) Stat(context.Context) (tree.Entry, error) {
	fi, err := f.File.Stat()
	if err != nil {
		return tree.Entry{}, err
	}
	return entryOf(fi, filepath.Base(f.Name())), nil
}

func (f *diskFile) WriteAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.append {
		var err error
		if off, err = f.Seek(0, io.SeekEnd); err != nil {
			return 0, err
		}
	}
	if off > math.MaxInt64-int64(len(p)) {
		return 0, syscall.EFBIG
	}
	return f.File.WriteAt(p, off)
}

func (f *diskFile) SetAttr(_ context.Context, a tree.Attr) error {
	return setAttr("/proc/self/fd/"+strconv.Itoa(int(f.Fd())), a, 0)
}

func (f *diskFile) Sync(context.Context) error { return f.File.Sync() }

var (
	_ tree.FS = diskFS{}
	_ context.Context
)
