package wire

import (
	"net"

	"golang.org/x/sys/unix"
)

// congestion asks for BBR. It is not there if the module is not loaded, or not
// allowed to everybody (net.ipv4.tcp_allowed_congestion_control).
func congestion(tcp *net.TCPConn) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, "bbr")
	})
}
