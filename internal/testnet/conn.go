// Package testnet is a network for tests: buffered connections in memory that
// cut, stall, flip bytes and slow down when told to. It opens no socket, and
// everything of it works inside a testing/synctest bubble.
package testnet

import (
	"errors"
	"io"
	"net"
	"syscall"
	"time"
)

// BufferSize is how many bytes one direction of a connection holds before
// Write blocks: more than SSH's 2 MiB window would hide missing back-pressure,
// less than a handshake's packets would deadlock two ends that both write
// first.
const BufferSize = 256 << 10

// A Conn is one end of a connection. Its faults apply to what this end sends;
// they may be set at any time, also while the other end reads. It is safe for
// concurrent use.
type Conn struct {
	local, remote net.Addr
	in, out       *stream
}

// Pipe returns the two ends of a new connection.
func Pipe() (client, server *Conn) {
	return pipe(addr("192.0.2.1", 40000), addr("192.0.2.2", 22))
}

func pipe(clientAddr, serverAddr net.Addr) (client, server *Conn) {
	up, down := newStream(), newStream()
	client = &Conn{local: clientAddr, remote: serverAddr, in: down, out: up}
	server = &Conn{local: serverAddr, remote: clientAddr, in: up, out: down}
	return client, server
}

// Read returns what the other end sent, io.EOF after its Close, and
// syscall.ECONNRESET after a cut.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.in.read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &net.OpError{Op: "read", Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
	}
	return n, err
}

// Write sends p; it blocks while the buffer is full.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.out.write(p)
	if err != nil {
		err = &net.OpError{Op: "write", Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
	}
	return n, err
}

// Close ends both directions: the other end reads what is on its way and then
// io.EOF, and its writes fail.
func (c *Conn) Close() error {
	c.out.finish()
	c.in.fail(net.ErrClosed, syscall.EPIPE)
	return nil
}

// CloseWrite ends what this end sends, as TCP's half-close does.
func (c *Conn) CloseWrite() error {
	c.out.finish()
	return nil
}

// LocalAddr is a *net.TCPAddr.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is a *net.TCPAddr.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	c.in.readDeadline.set(c.in, t)
	c.out.writeDeadline.set(c.out, t)
	return nil
}

// SetReadDeadline makes reads fail with os.ErrDeadlineExceeded from t on.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.in.readDeadline.set(c.in, t)
	return nil
}

// SetWriteDeadline makes writes fail with os.ErrDeadlineExceeded from t on.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.out.writeDeadline.set(c.out, t)
	return nil
}

// Cut breaks the connection at once: what is on its way is lost, and both ends
// see a reset.
func (c *Conn) Cut() {
	c.out.fail(syscall.ECONNRESET, syscall.ECONNRESET)
	c.in.fail(syscall.ECONNRESET, syscall.ECONNRESET)
}

// CutAfter breaks the connection once this end has sent n more bytes.
func (c *Conn) CutAfter(n int64) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.out.cutAt = c.out.sent + n
	c.out.onCut = c.Cut
}

// StallAfter keeps what this end sends after n more bytes from ever arriving, its
// end included.
func (c *Conn) StallAfter(n int64) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.out.holdAt = c.out.sent + n
}

// Stall keeps what this end sends from arriving, as a pulled cable does: no
// error, and writes go on until the buffer is full.
func (c *Conn) Stall() { c.out.stall(true) }

// Resume ends a Stall; nothing was lost.
func (c *Conn) Resume() { c.out.stall(false) }

// FlipAfter inverts the byte that this end sends after n more bytes.
func (c *Conn) FlipAfter(n int64) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.out.flips = append(c.out.flips, c.out.sent+n)
}

// Slow limits what this end sends to bytesPerSecond (0: no limit) and delays
// each byte by latency.
func (c *Conn) Slow(bytesPerSecond int64, latency time.Duration) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.out.rate, c.out.latency = bytesPerSecond, latency
}

// Sent returns how many bytes this end has sent.
func (c *Conn) Sent() int64 {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.out.sent
}
