//go:build unix

package main

import (
	"os"
	"syscall"

	"transferd/internal/tree"
)

// openTTY opens the controlling terminal for questions and answers.
func openTTY() (in, out *os.File, closeTTY func(), err error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, nil, nil, err
	}
	return tty, tty, func() { _ = tty.Close() }, nil
}

// takesEscapes reports whether terminal f understands escape sequences.
func takesEscapes(*os.File) bool { return true }

// processUmask returns the umask. There is no way to read it but to set it, so
// this is called before there are goroutines that make files.
func processUmask() tree.Perm {
	mask := syscall.Umask(0o077)
	syscall.Umask(mask)
	return tree.Perm(mask & 0o777)
}
