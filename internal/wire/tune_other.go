//go:build !linux

package wire

import "net"

// congestion leaves it to the system.
func congestion(*net.TCPConn) {}
