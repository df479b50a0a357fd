package main

import (
	"os"

	"golang.org/x/sys/windows"

	"transferd/internal/tree"
)

// openTTY opens the console for questions and answers, whatever the standard
// streams are.
func openTTY() (in, out *os.File, closeTTY func(), err error) {
	in, err = os.OpenFile("CONIN$", os.O_RDWR, 0)
	if err != nil {
		return nil, nil, nil, err
	}
	out, err = os.OpenFile("CONOUT$", os.O_RDWR, 0)
	if err != nil {
		_ = in.Close()
		return nil, nil, nil, err
	}
	return in, out, func() { _ = in.Close(); _ = out.Close() }, nil
}

// takesEscapes makes console f understand escape sequences, and reports whether
// it does; before Windows 10 none did.
func takesEscapes(f *os.File) bool {
	var mode uint32
	handle := windows.Handle(f.Fd())
	if err := windows.GetConsoleMode(handle, &mode); err != nil {
		return false
	}
	return windows.SetConsoleMode(handle, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) == nil
}

// processUmask returns nothing: Windows has no umask.
func processUmask() tree.Perm { return 0 }
