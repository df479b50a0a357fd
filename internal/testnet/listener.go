package testnet

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"syscall"
)

// backlog is how many connections wait for Accept before Dial blocks: what a
// kernel takes, roughly, so that tests of floods need no accepting goroutine.
const backlog = 4096

// A Listener accepts connections that are dialled on it. It is safe for
// concurrent use.
type Listener struct {
	address net.Addr
	queue   chan *Conn
	closed  chan struct{}
	once    sync.Once

	mu   sync.Mutex
	port uint16 // of the next client
}

// Listen returns a listener; Close ends it.
func Listen() *Listener {
	return &Listener{
		address: addr("192.0.2.2", 22),
		queue:   make(chan *Conn, backlog),
		closed:  make(chan struct{}),
		port:    40000,
	}
}

// Accept returns the next connection, net.ErrClosed after Close.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close makes Accept and Dial fail; connections that exist stay.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr is a *net.TCPAddr.
func (l *Listener) Addr() net.Addr { return l.address }

// Dial returns the client's end of a new connection from 192.0.2.1.
func (l *Listener) Dial(ctx context.Context) (*Conn, error) {
	return l.DialFrom(ctx, "192.0.2.1")
}

// DialFrom is Dial with an IP address to come from.
func (l *Listener) DialFrom(ctx context.Context, ip string) (*Conn, error) {
	l.mu.Lock()
	l.port++
	client, server := pipe(addr(ip, l.port), l.address)
	l.mu.Unlock()
	select {
	case <-l.closed:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: l.address, Err: syscall.ECONNREFUSED}
	default:
	}
	select {
	case l.queue <- server:
		return client, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: l.address, Err: syscall.ECONNREFUSED}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func addr(ip string, port uint16) net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(ip), port))
}
