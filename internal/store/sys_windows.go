package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/windows"

	"transferd/internal/tree"
)

const hostLabel = ""

func systemCalls() calls {
	return calls{
		renameNoReplace: func(*dir, string, *dir, string) error { return errors.ErrUnsupported },
		link:            (*dir).link,
		lock:            lockFile,
		preallocate:     func(*os.File, int64) error { return errors.ErrUnsupported },
		punch:           func(*os.File, tree.Extent) error { return errors.ErrUnsupported },
		extents:         func(*os.File, int64) ([]tree.Extent, error) { return nil, errors.ErrUnsupported },
		write:           (*os.File).WriteAt,
		datasync:        (*os.File).Sync,
		sync:            (*os.File).Sync,
		syncDir:         (*dir).sync,
		syncFS:          func(*dir) error { return nil },
	}
}

func forget(*os.File) {}

func mountPoint(uint64) string { return "" }

func processUmask() tree.Perm { return 0o022 }

func isUnsupported(err error) bool { return errors.Is(err, errors.ErrUnsupported) }

var errTooManyLinks = fs.ErrInvalid

// isLink: os.Root follows instead.
func isLink(error) bool { return false }

func isInvalid(error) bool { return false }

// lockFile takes the lock of f, which ends with its handle. It lies on one byte
// far behind any data, for locks are mandatory here.
func lockFile(f *os.File, shared bool) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var flags uint32 = windows.LOCKFILE_FAIL_IMMEDIATELY
	if !shared {
		flags |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	far := &windows.Overlapped{OffsetHigh: 0x7fffffff}
	var result error
	if err := conn.Control(func(fd uintptr) {
		result = windows.LockFileEx(windows.Handle(fd), flags, 0, 1, 0, far)
	}); err != nil {
		return err
	}
	if errors.Is(result, windows.ERROR_LOCK_VIOLATION) {
		return errBusy
	}
	return result
}

func fileChtimes(f *os.File, atime, mtime *time.Time) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	times := [2]*windows.Filetime{}
	for i, t := range []*time.Time{atime, mtime} {
		if t != nil {
			ft := windows.NsecToFiletime(t.UnixNano())
			times[i] = &ft
		}
	}
	var result error
	if err := conn.Control(func(fd uintptr) {
		result = windows.SetFileTime(windows.Handle(fd), nil, times[0], times[1])
	}); err != nil {
		return err
	}
	return result
}

func (d *dir) statfs() (tree.Space, error) {
	name, err := windows.UTF16PtrFromString(d.root.Name())
	if err != nil {
		return tree.Space{}, err
	}
	var avail, total, free uint64
	if err := windows.GetDiskFreeSpaceEx(name, &avail, &total, &free); err != nil {
		return tree.Space{}, err
	}
	return tree.Space{BlockSize: 4096, Total: total, Free: free, Available: avail, MaxName: 255}, nil
}

func isAbs(link string) bool {
	return filepath.IsAbs(link) || filepath.VolumeName(link) != "" || os.IsPathSeparator(link[0])
}

func hostRelative(abs string) string { return filepath.ToSlash(abs) }

// classify returns the sentinel that err stands for, nil if none.
func classify(err error) error {
	for _, known := range []struct {
		errno windows.Errno
		is    error
	}{
		{windows.ERROR_DIRECTORY, tree.ErrNotDir},
		{windows.ERROR_DIR_NOT_EMPTY, tree.ErrNotEmpty},
		{windows.ERROR_DISK_FULL, tree.ErrNoSpace},
		{windows.ERROR_HANDLE_DISK_FULL, tree.ErrNoSpace},
		{windows.ERROR_DISK_QUOTA_EXCEEDED, tree.ErrQuota},
	} {
		if errors.Is(err, known.errno) {
			return known.is
		}
	}
	return nil
}

func isProcessAlive(pid int) bool {
	h, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(pid)) //nolint:gosec // a process number
	if err != nil {
		return false
	}
	_ = windows.CloseHandle(h)
	return true
}
