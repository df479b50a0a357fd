//go:build linux || darwin

package store

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"transferd/internal/tree"
)

// flock takes the lock of f, which ends with its handle, also by a kill.
func flock(f *os.File, shared bool) error {
	how := unix.LOCK_EX
	if shared {
		how = unix.LOCK_SH
	}
	err := control(f, func(fd int) error { return unix.Flock(fd, how|unix.LOCK_NB) })
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return errBusy
	case errors.Is(err, unix.ENOLCK) || errors.Is(err, unix.EINVAL): // NFS without lockd, some FUSE filesystems
		return unix.ENOTSUP
	}
	return err
}

// mostExtents is in how many pieces the data of a file is told: what lies behind
// them counts as data. More would be memory that a file can take at will.
const mostExtents = 1 << 16

// seekExtents asks the filesystem where the data of f lies. A filesystem that
// does not know says that all is data.
func seekExtents(f *os.File, size int64) ([]tree.Extent, error) {
	var list []tree.Extent
	for pos := int64(0); pos < size; {
		start, err := seek(f, pos, unix.SEEK_DATA)
		if err == unix.ENXIO { //nolint:errorlint // a bare errno: no data behind pos
			break
		}
		if err == unix.EINVAL { //nolint:errorlint // a bare errno: the filesystem cannot tell
			return nil, unix.ENOTSUP
		}
		if err != nil {
			return nil, err
		}
		if start >= size {
			break
		}
		end, err := seek(f, start, unix.SEEK_HOLE)
		if err != nil {
			return nil, err
		}
		end = min(end, size)
		if end <= start || len(list) == mostExtents-1 { // the file is changing under us, or has too many
			end = size
		}
		list = append(list, tree.Extent{Offset: start, Length: end - start})
		pos = end
	}
	return list, nil
}

func seek(f *os.File, off int64, whence int) (pos int64, err error) {
	err = control(f, func(fd int) error {
		pos, err = unix.Seek(fd, off, whence)
		return err
	})
	return pos, err
}

func hostRelative(abs string) string {
	abs = strings.TrimLeft(abs, "/")
	if abs == "" {
		return "."
	}
	return abs
}

func isAbs(link string) bool { return strings.HasPrefix(link, "/") }

// classify returns the sentinel that errno err stands for, nil if none.
func classify(err error) error {
	for _, known := range []struct {
		errno unix.Errno
		is    error
	}{
		{unix.ENOTDIR, tree.ErrNotDir},
		{unix.EISDIR, tree.ErrIsDir},
		{unix.ENOTEMPTY, tree.ErrNotEmpty},
		{unix.ENOSPC, tree.ErrNoSpace},
		{unix.EDQUOT, tree.ErrQuota},
		{unix.EROFS, os.ErrPermission},
	} {
		if errors.Is(err, known.errno) {
			return known.is
		}
	}
	return nil
}

var errTooManyLinks error = unix.ELOOP

// isLink reports that an open met a symlink where it follows none.
func isLink(err error) bool { return errors.Is(err, unix.ELOOP) }

// isInvalid reports that a call means nothing for this kind of file.
func isInvalid(err error) bool { return errors.Is(err, unix.EINVAL) }

// isProcessAlive reports whether process pid of this machine runs.
func isProcessAlive(pid int) bool {
	err := unix.Kill(pid, 0)
	return err == nil || errors.Is(err, unix.EPERM)
}
