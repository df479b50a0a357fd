package store

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"transferd/internal/tree"
)

const (
	hostLabel = "/" // what errors put before a Path of the host
	utimeOmit = unix.UTIME_OMIT

	// O_PATH needs no permission to read: names may be made in a directory that
	// nobody may list.
	dirFlags = unix.O_PATH | unix.O_DIRECTORY
)

func systemCalls() calls {
	return calls{
		openBeneath:     openBeneath,
		renameNoReplace: renameNoReplace,
		link:            (*dir).link,
		lock:            flock,
		preallocate:     preallocate,
		punch:           punch,
		extents:         seekExtents,
		write:           (*os.File).WriteAt,
		datasync: func(f *os.File) error {
			return control(f, unix.Fdatasync)
		},
		sync:    (*os.File).Sync,
		syncDir: (*dir).sync,
		syncFS:  (*dir).syncFS,

		makeTemp:  makeTemp,
		writeTemp: writeTemp,
		syncTemp:  func(fd int) error { return retry(func() error { return unix.Fsync(fd) }) },
		lostTemp:  lostTemp,
		linkTemp:  linkTemp,
	}
}

// openBeneath costs one call for the whole path, where os.Root makes one for
// each element. The kernel has it since 5.6; seccomp filters of containers may
// refuse it.
func openBeneath(root int, path string) (int, error) {
	how := unix.OpenHow{
		Flags:   dirFlags | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	}
	// EAGAIN: a rename somewhere made the kernel unsure about a ".."; os.Root
	// is the fallback for a tree that is never still.
	for range 16 {
		fd, err := unix.Openat2(root, path, &how)
		switch err {
		case unix.EINTR, unix.EAGAIN:
			continue
		case unix.EXDEV:
			return -1, tree.ErrEscape
		case unix.EPERM: // seccomp; the call itself says EACCES
			return -1, unix.ENOSYS
		}
		return fd, err
	}
	return -1, unix.ENOSYS
}

func renameNoReplace(from *dir, name string, to *dir, newName string) error {
	err := retry(func() error {
		return unix.Renameat2(from.fd, name, to.fd, newName, unix.RENAME_NOREPLACE)
	})
	if err == unix.EINVAL { //nolint:errorlint // a bare errno: the filesystem does not know the flag
		return unix.ENOTSUP
	}
	return err
}

func preallocate(f *os.File, size int64) error {
	return control(f, func(fd int) error {
		var st unix.Statfs_t
		if err := unix.Fstatfs(fd, &st); err == nil && st.Type == unix.TMPFS_MAGIC {
			return unix.ENOTSUP // in memory one piece is as good as many
		}
		return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, size)
	})
}

func punch(f *os.File, x tree.Extent) error {
	return control(f, func(fd int) error {
		return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, x.Offset, x.Length)
	})
}

// forget drops the clean pages of f from memory, so that what is read next
// comes from the disk.
func forget(f *os.File) {
	_ = control(f, func(fd int) error { return unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED) })
}

// chmod never follows: fchmodat2, or where the kernel lacks it (before 6.6) the
// handle itself.
func (d *dir) chmod(name string, perm tree.Perm) error {
	err := unix.Fchmodat(d.fd, name, uint32(perm), unix.AT_SYMLINK_NOFOLLOW)
	if !isUnsupported(err) {
		return err
	}
	fd, err := openAt(d.fd, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if kindOf(st.Mode) == tree.KindSymlink {
		return unix.ENOTSUP
	}
	return unix.Chmod(procPath(fd), uint32(perm))
}

func fileChtimes(f *os.File, atime, mtime *time.Time) error {
	ts, err := timespecs(atime, mtime)
	if err != nil {
		return err
	}
	return control(f, func(fd int) error { return fdChtimes(fd, &ts) })
}

func fdChtimes(fd int, ts *[2]unix.Timespec) error {
	err := unix.UtimesNanoAt(fd, "", ts[:], unix.AT_EMPTY_PATH)
	if err == unix.EINVAL || err == unix.ENOENT { // a kernel before 5.8
		return unix.UtimesNanoAt(unix.AT_FDCWD, procPath(fd), ts[:], 0)
	}
	return err
}

// syncFS reports writes that were lost since d was opened for syncs.
func (d *dir) syncFS() error {
	if d.list > 0 {
		return unix.Syncfs(d.list)
	}
	fd, err := openAt(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.Syncfs(fd)
}

func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

func (d *dir) statfs() (tree.Space, error) {
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(d.fd, &st) }); err != nil {
		return tree.Space{}, err
	}
	block := uint64(st.Frsize) //nolint:gosec // never negative
	if block == 0 {
		block = uint64(st.Bsize) //nolint:gosec // never negative
	}
	return tree.Space{
		BlockSize:    block,
		Total:        st.Blocks * block,
		Free:         st.Bfree * block,
		Available:    st.Bavail * block,
		Files:        st.Files,
		FilesFree:    st.Ffree,
		FilesAvail:   st.Ffree,
		FilesystemID: uint64(uint32(st.Fsid.Val[0])) | uint64(uint32(st.Fsid.Val[1]))<<32, //nolint:gosec // bits, not numbers
		ReadOnly:     st.Flags&unix.ST_RDONLY != 0,
		NoSuid:       st.Flags&unix.ST_NOSUID != 0,
		MaxName:      uint64(st.Namelen), //nolint:gosec // never negative
	}, nil
}

// mountPoint returns where the filesystem with device number dev is mounted,
// "" if it cannot tell. See proc_pid_mountinfo(5).
func mountPoint(dev uint64) string {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	want := strconv.Itoa(int(unix.Major(dev))) + ":" + strconv.Itoa(int(unix.Minor(dev)))
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 4 && f[2] == want {
			return unescapeMount(f[4])
		}
	}
	return ""
}

// unescapeMount undoes the kernel's octal spelling of odd bytes.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				_ = b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		_ = b.WriteByte(s[i])
	}
	return b.String()
}

// processUmask reads the umask without changing it, which would be seen by
// every thread.
func processUmask() tree.Perm {
	text, err := os.ReadFile("/proc/self/status")
	if err == nil {
		for line := range strings.Lines(string(text)) {
			if v, ok := strings.CutPrefix(line, "Umask:"); ok {
				if n, err := strconv.ParseUint(strings.TrimSpace(v), 8, 32); err == nil {
					return tree.Perm(n) & 0o777
				}
			}
		}
	}
	return 0o022
}

func isUnsupported(err error) bool { return errors.Is(err, errors.ErrUnsupported) }
