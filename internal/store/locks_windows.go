package store

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// lockByte takes the lock of one byte of f without waiting: errBusy if another
// process has it.
func lockByte(f *os.File, at int64) error {
	err := onHandle(f, func(h windows.Handle) error {
		const flags = windows.LOCKFILE_FAIL_IMMEDIATELY | windows.LOCKFILE_EXCLUSIVE_LOCK
		return windows.LockFileEx(h, flags, 0, 1, 0, overlapped(at))
	})
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return errBusy
	}
	return err
}

// unlockByte gives it back. It cannot fail for a lock that is held.
func unlockByte(f *os.File, at int64) {
	_ = onHandle(f, func(h windows.Handle) error {
		return windows.UnlockFileEx(h, 0, 1, 0, overlapped(at))
	})
}

func overlapped(at int64) *windows.Overlapped {
	return &windows.Overlapped{Offset: uint32(at), OffsetHigh: uint32(at >> 32)} //nolint:gosec // the two halves
}

func onHandle(f *os.File, call func(windows.Handle) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	if err := conn.Control(func(fd uintptr) { result = call(windows.Handle(fd)) }); err != nil {
		return err
	}
	return result
}
