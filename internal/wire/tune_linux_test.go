package wire

import (
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTuneAsksForBBR(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	Tune(conn)
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var name string
	var alive, noDelay int
	if controlErr := raw.Control(func(fd uintptr) {
		name, err = unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
		alive, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE)
		noDelay, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY)
	}); controlErr != nil || err != nil {
		t.Fatal(controlErr, err)
	}
	if alive == 0 || noDelay == 0 {
		t.Errorf("keepalive %d, no delay %d", alive, noDelay)
	}
	allowed, err := os.ReadFile("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
	given := err == nil && strings.Contains(string(allowed), "bbr") // else the system's own stays
	if name = strings.TrimRight(name, "\x00"); name == "" || given && name != "bbr" {
		t.Errorf("congestion control %q, want bbr", name)
	}
	Tune(nil) // anything
}
