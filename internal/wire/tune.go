package wire

import (
	"net"
	"time"
)

// Tune sets what a TCP connection should have at either end: no waiting for
// more to send, signs of life from the kernel, and BBR to govern how much is on
// its way where the kernel has that. With a long line that loses a packet now
// and then, cubic takes seconds to get back to speed and BBR does not slow
// down. What cannot be set stays as it is; conn may be anything.
func Tune(conn net.Conn) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	// Errors say that the connection has gone, which its first use tells too.
	_ = tcp.SetNoDelay(true)
	_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 4})
	congestion(tcp)
}
