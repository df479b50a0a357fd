package store

import "golang.org/x/sys/unix"

// setLock sets a lock that belongs to the process, which has the file open once.
const setLock = unix.F_SETLK
