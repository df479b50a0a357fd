package store

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// openXattrs holds name, whatever its mode, without following a symlink.
func (d *dir) openXattrs(name string) (xattrs, error) {
	fd, err := openAt(d.fd, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	// A handle of this kind is good for nothing but its path, which leads to
	// exactly what it holds.
	return pathXattrs{fd: fd, path: procPath(fd)}, nil
}

type pathXattrs struct {
	fd   int
	path string
}

func (x pathXattrs) Close() error { return unix.Close(x.fd) }

func (x pathXattrs) names() ([]string, error) {
	return xattrNames(func(buf []byte) (int, error) { return unix.Listxattr(x.path, buf) })
}

func (x pathXattrs) get(name string) ([]byte, error) {
	return xattrValue(func(buf []byte) (int, error) { return unix.Getxattr(x.path, name, buf) })
}

func (x pathXattrs) set(name string, value []byte) error {
	return unix.Setxattr(x.path, name, value, 0)
}

func (x pathXattrs) remove(name string) error { return unix.Removexattr(x.path, name) }

// fdXattrs are those of an open file, which stays open.
type fdXattrs int

func (fdXattrs) Close() error { return nil }

func (x fdXattrs) names() ([]string, error) {
	return xattrNames(func(buf []byte) (int, error) { return unix.Flistxattr(int(x), buf) })
}

func (x fdXattrs) get(name string) ([]byte, error) {
	return xattrValue(func(buf []byte) (int, error) { return unix.Fgetxattr(int(x), name, buf) })
}

func (x fdXattrs) set(name string, value []byte) error {
	return unix.Fsetxattr(int(x), name, value, 0)
}

func (x fdXattrs) remove(name string) error { return unix.Fremovexattr(int(x), name) }

// fileXattrs runs act on those of the open file f.
func fileXattrs(f *os.File, act func(xattrs) error) error {
	return control(f, func(fd int) error { return act(fdXattrs(fd)) })
}

// xattrMost is the largest list of names and the largest value of Linux.
const xattrMost = 64 << 10

func xattrNames(list func([]byte) (int, error)) ([]string, error) {
	buf, err := sized(list)
	if err != nil || len(buf) == 0 {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(buf), "\x00"), "\x00"), nil
}

func xattrValue(get func([]byte) (int, error)) ([]byte, error) {
	buf, err := sized(get)
	if buf == nil {
		buf = []byte{}
	}
	return buf, err
}

// sized calls with a small buffer first and with the largest then: what is
// asked for may grow between two calls.
func sized(call func([]byte) (int, error)) ([]byte, error) {
	for _, size := range []int{256, xattrMost} {
		buf := make([]byte, size)
		n, err := call(buf)
		switch {
		case err == nil:
			return buf[:n], nil
		case !errors.Is(err, unix.ERANGE):
			return nil, err
		}
	}
	return nil, unix.E2BIG
}

func isNoXattr(err error) bool { return errors.Is(err, unix.ENODATA) }
