//go:build unix

package auth

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// defaultAgent is where the agent is if nothing says so.
const defaultAgent = ""

// openNoWait makes open return at once from a FIFO that nobody writes.
const openNoWait = unix.O_NONBLOCK

// checkPrivate refuses a private key that others can read, as ssh does. Like
// ssh it only minds files of its own user: what another one owns, root say, was
// made readable on purpose.
func checkPrivate(path string, info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if ok && int(st.Uid) == os.Getuid() && info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o: others can read this private key; chmod 600 it", path, info.Mode().Perm())
	}
	return nil
}

// checkNotWritable refuses a file that others can write, as sshd's StrictModes
// does.
func checkNotWritable(path string, info fs.FileInfo) error {
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s has mode %04o: others can write it; chmod go-w it", path, info.Mode().Perm())
	}
	return nil
}

// syncDir makes the names in dir durable. File systems that cannot sync a
// directory do not need it or cannot be helped.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync the directory: %w", err)
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		err = nil
	}
	if err = errors.Join(err, d.Close()); err != nil {
		return fmt.Errorf("sync the directory: %w", err)
	}
	return nil
}

// lockFile waits until this open file is the only one that holds the lock. It
// ends with Close. Without locks (some network file systems) appends are still
// single writes.
func lockFile(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.ENOLCK), errors.Is(err, unix.ENOSYS):
			return nil
		case err != nil:
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		default:
			return nil
		}
	}
}

func dialAgent(ctx context.Context, address string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", address)
}
