package auth

import (
	"context"
	"fmt"
	"io/fs"
	"math"
	"net"
	"os"
	"strings"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"
)

// defaultAgent is where the agent is if nothing says so.
const defaultAgent = `\\.\pipe\openssh-ssh-agent`

// openNoWait is for FIFOs, which no path leads to here.
const openNoWait = 0

// checkPrivate does nothing: access is told by lists, not by modes, and a home
// directory is private by what it inherits.
func checkPrivate(string, fs.FileInfo) error { return nil }

func checkNotWritable(string, fs.FileInfo) error { return nil }

// syncDir does nothing: directories cannot be synced.
func syncDir(string) error { return nil }

// lockFile waits until this open file is the only one that holds the lock,
// which is a byte far behind the end, so that readers are not shut out. It ends
// with Close.
func lockFile(f *os.File) error {
	at := windows.Overlapped{OffsetHigh: math.MaxInt32}
	if err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK, 0, 1, 0, &at); err != nil {
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return nil
}

func dialAgent(ctx context.Context, address string) (net.Conn, error) {
	if strings.HasPrefix(strings.ReplaceAll(address, "/", `\`), `\\.\pipe\`) {
		return winio.DialPipeContext(ctx, address)
	}
	return (&net.Dialer{}).DialContext(ctx, "unix", address)
}
