package transport

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"

	"transferd/internal/transport/native"
	"transferd/internal/wire"
	"transferd/protocol"
)

// closeGrace bounds how long the end of a stream may take.
const closeGrace = time.Second

// A tlsStream is a TLS connection that speaks our protocol.
type tlsStream struct {
	*tls.Conn
	wire  *wire.Conn
	clock *guard // of the handshake; nil: none
	group *sync.WaitGroup
	once  sync.Once
}

// Close implements io.Closer, as native.Stream wants it: whoever waits returns,
// and the server is told of the end if it listens.
func (c *tlsStream) Close() error {
	c.once.Do(func() {
		if c.clock != nil {
			c.clock.release()
		}
		_ = c.wire.SetReadDeadline(time.Unix(1, 0)) // a closed connection has nobody waiting either
		c.group.Go(func() {
			stuck := time.AfterFunc(closeGrace, c.wire.Abort)
			_ = c.Conn.Close() // the stream is over, however that comes out
			_ = c.wire.Close() // if TLS has not
			<-c.wire.Done()
			stuck.Stop()
		})
	})
	return nil
}

// A lastingConn keeps crypto/tls from ending writes by deadline: it does so
// right behind its close_notify, which is still on its way through the buffer.
type lastingConn struct{ *wire.Conn }

// SetWriteDeadline implements net.Conn, and does nothing.
func (c lastingConn) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline implements net.Conn.
func (c lastingConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// errNoALPN says that the server knows TLS and does not know us.
var errNoALPN = errors.New("it does not agree on " + protocol.ALPN)

// errOtherKey says that a further stream does not lead to the server.
var errOtherKey = errors.New("what listens there is not the server of this session")

// startTLS makes conn, which it owns from now on, speak TLS as docs/protocol.md
// has it, and reports why it cannot. Who the server is, is proved behind it; only
// where pin is not nil must it show exactly the key with that SHA-256.
func startTLS(ctx context.Context, conn net.Conn, pin *[32]byte, group *sync.WaitGroup) (*tlsStream, error) {
	w := wire.New(conn)
	config := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{protocol.ALPN},
		SessionTicketsDisabled: true,

		DynamicRecordSizingDisabled: true, // small records first are for browsers
		InsecureSkipVerify:          true, //nolint:gosec // names and issuers say nothing here: the host key does, or the pin
		VerifyConnection: func(state tls.ConnectionState) error {
			if state.NegotiatedProtocol != protocol.ALPN {
				return errNoALPN
			}
			if pin == nil {
				return nil
			}
			got := sha256.Sum256(state.PeerCertificates[0].RawSubjectPublicKeyInfo)
			if subtle.ConstantTimeCompare(got[:], pin[:]) != 1 {
				return errOtherKey
			}
			return nil
		},
	}
	s := &tlsStream{Conn: tls.Client(lastingConn{w}, config), wire: w, group: group}
	if err := s.HandshakeContext(ctx); err != nil {
		_ = s.Close() // it never fails
		return nil, err
	}
	return s, nil
}

// stream returns c as our protocol wants it.
func (c *tlsStream) stream() *native.Stream {
	state := c.ConnectionState()
	return &native.Stream{
		ReadWriteCloser: c,
		Transport:       "tcp",
		Binding:         protocol.BindingTLS,
		Exporter: func(label string) ([]byte, error) {
			return state.ExportKeyingMaterial(label, nil, protocol.ExporterSize)
		},
		Remote: addrPort(c.RemoteAddr()),
		Opened: func() {
			if c.clock != nil {
				c.clock.release()
			}
			c.wire.Grow()
		},
	}
}

// addrPort returns a as an address; zero for one that is not of TCP.
func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort()
	}
	return netip.AddrPort{}
}

// tlsError says for people why TLS with s did not come about.
func tlsError(s settings, err error) error {
	p := &problem{kind: ErrConnect, text: "connect to " + where(s)}
	var plain tls.RecordHeaderError
	var alert tls.AlertError
	switch {
	case errors.As(err, &plain) && strings.HasPrefix(string(plain.RecordHeader[:]), "SSH-"):
		p.text += ": an SSH server listens there"
		p.hint = fmt.Sprintf("write ssh://%s/, or leave out --transport=tcp; a transferd speaks tcp on %d", joinHostPort(s.host, s.port), protocol.TCPPort)
	case errors.As(err, &plain) && strings.HasPrefix(string(plain.RecordHeader[:]), "HTTP"):
		p.text += ": a web server listens there"
		p.hint = tcpPortHint
	case errors.As(err, &plain), errors.As(err, &alert), errors.Is(err, errNoALPN):
		p.text += ": what listens there is no transferd"
		p.cause, p.hint = err, tcpPortHint
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, net.ErrClosed):
		p.text += fmt.Sprintf(": the server took the connection but did not go on within %v", s.timeout)
		p.hint = "it may be overloaded, or no transferd; --timeout sets how long to wait"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		p.text += ": the server closed the connection before the login"
		p.hint = "it may have too many connections, or be no transferd; " + tcpPortHint
	default:
		p.cause, p.hint = err, tcpPortHint
	}
	return p
}

const tcpPortHint = "a transferd speaks tcp on port 2023 and SSH on 2022; check -P, or write ssh://"
