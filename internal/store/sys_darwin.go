package store

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"transferd/internal/tree"
)

const (
	hostLabel = "/" // what errors put before a Path of the host
	utimeOmit = -2  // UTIME_OMIT of sys/stat.h
	dirFlags  = unix.O_RDONLY | unix.O_DIRECTORY
)

func systemCalls() calls {
	return calls{
		renameNoReplace: func(from *dir, name string, to *dir, newName string) error {
			return retry(func() error {
				return unix.RenameatxNp(from.fd, name, to.fd, newName, unix.RENAME_EXCL)
			})
		},
		link:        (*dir).link,
		lock:        flock,
		preallocate: func(*os.File, int64) error { return unix.ENOTSUP },
		punch:       func(*os.File, tree.Extent) error { return unix.ENOTSUP },
		extents:     seekExtents,
		write:       (*os.File).WriteAt,
		datasync:    (*os.File).Sync, // F_FULLFSYNC: fsync alone does not reach the disk here
		sync:        (*os.File).Sync,
		syncDir:     (*dir).sync,
		syncFS:      func(*dir) error { return unix.Sync() },
	}
}

func forget(*os.File) {}

func (d *dir) chmod(name string, perm tree.Perm) error {
	return unix.Fchmodat(d.fd, name, uint32(perm), unix.AT_SYMLINK_NOFOLLOW)
}

// fileChtimes has only microseconds for a handle here.
func fileChtimes(f *os.File, atime, mtime *time.Time) error {
	e, err := fileEntry(f, "")
	if err != nil {
		return err
	}
	tv := make([]unix.Timeval, 2)
	for i, t := range []*time.Time{atime, mtime} {
		if t == nil {
			t = []*time.Time{&e.Atime, &e.Mtime}[i]
		}
		tv[i] = unix.NsecToTimeval(t.UnixNano())
	}
	return control(f, func(fd int) error { return unix.Futimes(fd, tv) })
}

func (d *dir) statfs() (tree.Space, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(d.fd, &st); err != nil {
		return tree.Space{}, err
	}
	block := uint64(st.Bsize)
	return tree.Space{
		BlockSize:  block,
		Total:      st.Blocks * block,
		Free:       st.Bfree * block,
		Available:  st.Bavail * block,
		Files:      st.Files,
		FilesFree:  st.Ffree,
		FilesAvail: st.Ffree,
		ReadOnly:   st.Flags&unix.MNT_RDONLY != 0,
		NoSuid:     st.Flags&unix.MNT_NOSUID != 0,
		MaxName:    255,
	}, nil
}

func mountPoint(uint64) string { return "" }

func processUmask() tree.Perm { return 0o022 }

func isUnsupported(err error) bool { return errors.Is(err, errors.ErrUnsupported) }
