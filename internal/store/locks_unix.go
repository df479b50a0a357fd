//go:build linux || darwin

package store

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// lockByte takes the lock of one byte of f without waiting: errBusy if another
// process has it.
func lockByte(f *os.File, at int64) error {
	err := byteLock(f, at, unix.F_WRLCK)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return errBusy
	}
	return err
}

// unlockByte gives it back. It cannot fail for a lock that is held.
func unlockByte(f *os.File, at int64) { _ = byteLock(f, at, unix.F_UNLCK) }

func byteLock(f *os.File, at int64, kind int16) error {
	l := unix.Flock_t{Type: kind, Whence: io.SeekStart, Start: at, Len: 1}
	return control(f, func(fd int) error {
		return retry(func() error { return unix.FcntlFlock(uintptr(fd), setLock, &l) })
	})
}
