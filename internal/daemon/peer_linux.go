package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
)

// checkPeer says whether the process at the other end of a Unix socket is of
// this account (unix(7), SO_PEERCRED).
func checkPeer(conn net.Conn) error {
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return errors.New("no Unix socket")
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var peer *syscall.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		peer, failed = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	if int(peer.Uid) != os.Getuid() {
		return fmt.Errorf("the process at the other end belongs to user %d", peer.Uid)
	}
	return nil
}

// checkOwn says whether dir is a directory of this account that nobody else can
// get into.
func checkOwn(dir string) error {
	info, err := os.Lstat(dir) //nolint:gosec // where the account's own environment says
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || int(stat.Uid) != os.Getuid() || info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s is not a directory of this account alone: remove it, or set XDG_RUNTIME_DIR", dir)
	}
	return nil
}
