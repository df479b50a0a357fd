package store

import (
	"errors"

	"golang.org/x/sys/unix"

	"transferd/internal/tree"
)

// makeTemp makes a file in d that has no name: nobody else can open it, and a
// crash leaves nothing of it.
func makeTemp(d *dir, perm tree.Perm) (int, error) {
	fd, err := openAt(d.fd, ".", unix.O_TMPFILE|unix.O_RDWR, uint32(perm))
	if err == unix.EISDIR || err == unix.EINVAL { //nolint:errorlint // bare errnos
		return -1, unix.ENOTSUP // a kernel or filesystem that does not know the flag
	}
	return fd, err
}

func writeTemp(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err != nil && err != unix.EINTR {
			return err
		}
		data = data[max(n, 0):]
	}
	return nil
}

// lostTemp has nothing to wait for after a syncfs. It reports an error in
// writing back this very file, which syncfs does not before Linux 5.8.
func lostTemp(fd int) error {
	return retry(func() error { return unix.SyncFileRange(fd, 0, 0, unix.SYNC_FILE_RANGE_WAIT_BEFORE) })
}

// linkTemp gives the file fd a name in d, which must be free.
func linkTemp(fd int, to *dir, name string) error {
	err := retry(func() error { return unix.Linkat(fd, "", to.fd, name, unix.AT_EMPTY_PATH) })
	if err != unix.ENOENT && err != unix.EPERM { //nolint:errorlint // bare errnos
		return err
	}
	// Before Linux 6.10 only root may link a handle as such.
	return retry(func() error {
		return unix.Linkat(unix.AT_FDCWD, procPath(fd), to.fd, name, unix.AT_SYMLINK_FOLLOW)
	})
}

// setTempAttr gives the file fd owner, extended attributes and times, in this
// order and with perm, unless that is nil, before the times.
func (h *hub) setTempAttr(fd int, attr *tree.Attr, perm *tree.Perm) error {
	if attr.Owner != nil && h.owners {
		if err := unix.Fchown(fd, int(attr.Owner.UID), int(attr.Owner.GID)); err != nil {
			return err
		}
	}
	if len(attr.Xattrs) > 0 {
		if err := writeXattrs(fdXattrs(fd), attr.Xattrs); err != nil {
			return err
		}
	}
	if perm != nil {
		if err := unix.Fchmod(fd, uint32(*perm)); err != nil {
			return err
		}
	}
	if attr.Mtime == nil && attr.Atime == nil {
		return nil
	}
	ts, err := timespecs(attr.Atime, attr.Mtime)
	if err != nil {
		return err
	}
	return fdChtimes(fd, &ts)
}

// isFile reports whether name in d is the file fd.
func isFile(d *dir, name string, fd int) bool {
	var a, b unix.Stat_t
	return unix.Fstatat(d.fd, name, &a, unix.AT_SYMLINK_NOFOLLOW) == nil && unix.Fstat(fd, &b) == nil &&
		a.Ino == b.Ino && a.Dev == b.Dev
}

// exists reports whether there is anything called name in d.
func (d *dir) exists(name string) (bool, error) {
	var st unix.Stat_t
	err := retry(func() error { return unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	if err == unix.ENOENT { //nolint:errorlint // a bare errno
		return false, nil
	}
	return err == nil, err
}

// A survey is what is worth knowing of a directory in which many files are
// made one after the other.
type survey struct {
	// plain: what is made has the mode that is asked for, less the umask; the
	// directory hands down no access list of its own.
	plain bool

	// clean: no partial lies here. A directory with too many names to look
	// through counts as not clean.
	clean bool

	// known: what a sync does here is known, to files that have no name yet and
	// to the whole filesystem. FUSE, for one, does not tell its server of a
	// syncfs, and what lies below an overlay nobody says.
	known bool
}

// look surveys d, which must be prepared.
func (d *dir) look() (s survey) {
	if d.list <= 0 {
		return s
	}
	var st unix.Statfs_t
	if unix.Fstatfs(d.list, &st) == nil {
		switch int64(st.Type) { //nolint:unconvert // narrower on some architectures
		case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.TMPFS_MAGIC:
			s.known = true
		}
	}
	_, err := unix.Fgetxattr(d.list, "system.posix_acl_default", nil)
	s.plain = errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP)
	s.clean = d.isClean()
	return s
}

// surveyed is how many bytes of names look reads: those of about a thousand.
const surveyed = 32 << 10

func (d *dir) isClean() bool {
	if _, err := unix.Seek(d.list, 0, unix.SEEK_SET); err != nil {
		return false
	}
	buf := make([]byte, surveyed)
	for range 2 {
		n, err := unix.Getdents(d.list, buf)
		if err != nil || n == 0 {
			return err == nil
		}
		_, _, names := unix.ParseDirent(buf[:n], -1, nil)
		for _, name := range names {
			if tree.IsPartialName(name) {
				return false
			}
		}
	}
	return false
}
