//go:build linux || darwin

package store

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"transferd/internal/tree"
)

// A dir is a held directory. Its methods take one element as name and never
// follow a symlink. Whoever opened it closes it, and does not use it after.
type dir struct {
	fd int // may be an O_PATH handle: good for *at calls, not for reading

	// Of a directory that is held for longer: a handle for syncs, or 0, and
	// what id returns.
	list int
	self dirID
}

// A dirID tells one directory from another, whatever its path.
type dirID struct{ dev, ino uint64 }

func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR { //nolint:errorlint // a bare errno
			return err
		}
	}
}

func openAt(at int, path string, flags int, perm uint32) (fd int, err error) {
	err = retry(func() error {
		fd, err = unix.Openat(at, path, flags|unix.O_CLOEXEC, perm)
		return err
	})
	return fd, err
}

func (d *dir) Close() error {
	if d.list > 0 {
		_ = unix.Close(d.list)
	}
	return unix.Close(d.fd)
}

// prepare makes d ready to be held for longer.
func (d *dir) prepare() error {
	self, err := d.id()
	if err != nil {
		return err
	}
	d.self = self
	// What may not be read is synced as best it can be, when it comes to that.
	if fd, err := openAt(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0); err == nil {
		d.list = fd
	}
	return nil
}

func (d *dir) id() (dirID, error) {
	if d.self != (dirID{}) {
		return d.self, nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return dirID{}, err
	}
	return dirID{dev: uint64(st.Dev), ino: st.Ino}, nil //nolint:unconvert // the type of Dev differs by system; it is only compared
}

// lstat describes name; of a symlink it also reads the target.
func (d *dir) lstat(name string) (tree.Entry, error) {
	var st unix.Stat_t
	err := retry(func() error { return unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	if err != nil {
		return tree.Entry{}, err
	}
	e := entryOf(name, &st)
	if e.Kind == tree.KindSymlink {
		if e.Link, err = d.readlink(name); err != nil {
			return tree.Entry{}, err
		}
	}
	return e, nil
}

func (d *dir) readlink(name string) (string, error) {
	for size := 256; ; size *= 4 {
		buf := make([]byte, size)
		n, err := unix.Readlinkat(d.fd, name, buf)
		if err != nil {
			return "", err
		}
		if n < size {
			return string(buf[:n]), nil
		}
	}
}

// open opens name without waiting for anybody. Unless special is set it fails
// with tree.ErrNotRegular on what is no regular file.
func (d *dir) open(name string, flags int, perm tree.Perm, special bool) (*os.File, error) {
	fd, err := openAt(d.fd, name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, uint32(perm))
	if err == unix.ENXIO { //nolint:errorlint // a bare errno: a socket, or a FIFO that nobody reads
		return nil, notRegular(tree.KindUnknown, err)
	}
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	switch kind := entryOf(name, &st).Kind; {
	case kind != tree.KindFile && !special:
		_ = unix.Close(fd)
		return nil, notRegular(kind, nil)
	case kind == tree.KindFIFO: // as it is, a write to it can be broken off
		return os.NewFile(uintptr(fd), name), nil
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// readSmall reads the regular file name, unless it is larger than limit. It
// looks before it opens, for opening a device may already do something.
func (d *dir) readSmall(name string, limit int64) (tree.Entry, []byte, error) {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) }); err != nil {
		return tree.Entry{}, nil, err
	}
	e := entryOf(name, &st)
	switch {
	case e.Kind == tree.KindSymlink:
		return e, nil, errTooManyLinks // as open would say
	case e.Kind != tree.KindFile:
		return e, nil, notRegular(e.Kind, nil)
	case e.Size > limit:
		return e, nil, tooLarge(e.Size)
	}
	fd, err := openAt(d.fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return e, nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	data := make([]byte, e.Size)
	for n := 0; n < len(data); {
		m, err := unix.Read(fd, data[n:])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN || (err == nil && m == 0):
			return e, nil, tree.ErrSourceChanged
		case err != nil:
			return e, nil, err
		}
		n += m
	}
	if err := unix.Fstat(fd, &st); err != nil {
		return e, nil, err
	}
	return e, data, unchanged(e, entryOf(name, &st))
}

// openList opens directory name for reading its names. The dir returned is
// valid as long as the file.
func (d *dir) openList(name string) (*os.File, *dir, error) {
	fd, err := openAt(d.fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fd), name), &dir{fd: fd}, nil
}

func (d *dir) mkdir(name string, perm tree.Perm) error {
	return retry(func() error { return unix.Mkdirat(d.fd, name, uint32(perm)) })
}

func (d *dir) symlink(target, name string) error {
	return retry(func() error { return unix.Symlinkat(target, d.fd, name) })
}

func (d *dir) link(name string, to *dir, newName string) error {
	return retry(func() error { return unix.Linkat(d.fd, name, to.fd, newName, 0) })
}

func (d *dir) rename(name string, to *dir, newName string) error {
	return retry(func() error { return unix.Renameat(d.fd, name, to.fd, newName) })
}

// remove removes a file, a symlink or an empty directory.
func (d *dir) remove(name string) error {
	file := retry(func() error { return unix.Unlinkat(d.fd, name, 0) })
	if file == nil || (file != unix.EISDIR && file != unix.EPERM) { //nolint:errorlint // bare errnos
		return file
	}
	err := retry(func() error { return unix.Unlinkat(d.fd, name, unix.AT_REMOVEDIR) })
	if err == unix.ENOTDIR { //nolint:errorlint // a bare errno
		return file
	}
	return err
}

func (d *dir) chown(name string, o tree.Owner) error {
	return unix.Fchownat(d.fd, name, int(o.UID), int(o.GID), unix.AT_SYMLINK_NOFOLLOW)
}

// chtimes sets the times of name; nil leaves one as it is.
func (d *dir) chtimes(name string, atime, mtime *time.Time) error {
	ts, err := timespecs(atime, mtime)
	if err != nil {
		return err
	}
	return unix.UtimesNanoAt(d.fd, name, ts[:], unix.AT_SYMLINK_NOFOLLOW)
}

// sync makes the names in d durable.
func (d *dir) sync() error {
	if d.list > 0 {
		return retry(func() error { return unix.Fsync(d.list) })
	}
	fd, err := openAt(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return retry(func() error { return unix.Fsync(fd) })
}

// parent opens the directory above d.
func (d *dir) parent() (*dir, error) {
	fd, err := openAt(d.fd, "..", dirFlags, 0)
	if err != nil {
		return nil, err
	}
	return &dir{fd: fd}, nil
}

func entryOf(name string, st *unix.Stat_t) tree.Entry {
	return tree.Entry{
		Name:   name,
		Kind:   kindOf(uint32(st.Mode)), //nolint:unconvert // narrower on darwin
		Size:   st.Size,
		Perm:   tree.Perm(st.Mode) & tree.PermMask,
		Mtime:  time.Unix(st.Mtim.Unix()),
		Atime:  time.Unix(st.Atim.Unix()),
		Ctime:  time.Unix(st.Ctim.Unix()),
		UID:    st.Uid,
		GID:    st.Gid,
		Nlink:  uint64(st.Nlink), //nolint:unconvert // narrower on some systems
		Device: uint64(st.Dev),   //nolint:unconvert // signed on darwin; it is only compared
		Inode:  st.Ino,
		Grain:  time.Nanosecond,
	}
}

func kindOf(mode uint32) tree.Kind {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return tree.KindFile
	case unix.S_IFDIR:
		return tree.KindDir
	case unix.S_IFLNK:
		return tree.KindSymlink
	case unix.S_IFIFO:
		return tree.KindFIFO
	case unix.S_IFSOCK:
		return tree.KindSocket
	case unix.S_IFCHR:
		return tree.KindCharDevice
	case unix.S_IFBLK:
		return tree.KindBlockDevice
	}
	return tree.KindUnknown
}

// base is the root of a tree: of a confined one its handle, of the host
// nothing.
type base struct {
	root *os.Root // nil: the host
	dir  *dir     // of root
}

func openBase(r *os.Root) (base, error) {
	f, err := r.Open(".")
	if err != nil {
		return base{}, err
	}
	defer func() { _ = f.Close() }()
	var fd int
	err = control(f, func(of int) (err error) {
		fd, err = unix.FcntlInt(uintptr(of), unix.F_DUPFD_CLOEXEC, 0)
		return err
	})
	return base{root: r, dir: &dir{fd: fd}}, err
}

func (b base) Close() error {
	if b.root == nil {
		return nil
	}
	_ = b.dir.Close()
	return b.root.Close()
}

// openDir opens the directory that path leads to: as the system does on the
// host, and never out of the root elsewhere.
func (b base) openDir(sys *calls, path string) (*dir, error) {
	if b.root == nil {
		fd, err := openAt(unix.AT_FDCWD, "/"+path, dirFlags, 0)
		if err != nil {
			return nil, err
		}
		return &dir{fd: fd}, nil
	}
	if sys.openBeneath != nil {
		fd, err := sys.openBeneath(b.dir.fd, path)
		if err == nil {
			return &dir{fd: fd}, nil
		}
		if !isUnsupported(err) {
			return nil, err
		}
	}
	// os.Root walks element by element, which costs 2.5 µs for each.
	f, err := b.root.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var fd int
	err = control(f, func(of int) (err error) {
		fd, err = unix.FcntlInt(uintptr(of), unix.F_DUPFD_CLOEXEC, 0)
		return err
	})
	return &dir{fd: fd}, err
}

// openRoot opens directory p as a root of its own.
func (b base) openRoot(p tree.Path) (*os.Root, error) {
	if b.root == nil {
		return os.OpenRoot("/" + p.String())
	}
	return b.root.OpenRoot(p.String())
}

// control runs call with the handle of f, which stays open meanwhile.
func control(f *os.File, call func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	if err := conn.Control(func(fd uintptr) {
		result = retry(func() error { return call(int(fd)) })
	}); err != nil {
		return err
	}
	return result
}

func timespecs(atime, mtime *time.Time) (ts [2]unix.Timespec, err error) {
	for i, t := range []*time.Time{atime, mtime} {
		if t == nil {
			ts[i] = unix.Timespec{Nsec: utimeOmit}
			continue
		}
		if ts[i], err = unix.TimeToTimespec(*t); err != nil {
			return ts, err
		}
	}
	return ts, nil
}

// fileEntry describes the open file f.
func fileEntry(f *os.File, name string) (tree.Entry, error) {
	var st unix.Stat_t
	if err := control(f, func(fd int) error { return unix.Fstat(fd, &st) }); err != nil {
		return tree.Entry{}, err
	}
	return entryOf(name, &st), nil
}

func fileChown(f *os.File, o tree.Owner) error {
	return control(f, func(fd int) error { return unix.Fchown(fd, int(o.UID), int(o.GID)) })
}

func fileChmod(f *os.File, perm tree.Perm) error {
	return control(f, func(fd int) error { return unix.Fchmod(fd, uint32(perm)) })
}

// isPrivate reports whether e is a file that only this process's account can
// have made and written: a partial that somebody else planted is not continued.
func isPrivate(e tree.Entry) bool {
	return e.Kind == tree.KindFile && e.Nlink == 1 && int64(e.UID) == int64(os.Geteuid()) && e.Perm&0o022 == 0
}

// openHostDir opens a directory of the host by its OS path.
func openHostDir(path string) (*dir, error) {
	fd, err := openAt(unix.AT_FDCWD, path, dirFlags, 0)
	if err != nil {
		return nil, err
	}
	return &dir{fd: fd}, nil
}
