package tcpd

import (
	"crypto/tls"
	"net/netip"
	"sync"
	"time"

	"transferd/internal/transport/native"
	"transferd/internal/wire"
	"transferd/protocol"
)

// closeGrace bounds how long the end of a stream may take: what was written
// before goes out, and close_notify behind it.
const closeGrace = time.Second

// A quietConn keeps crypto/tls from ending writes by deadline: it does so right
// behind its close_notify, which is still on its way through the buffer.
type quietConn struct{ *wire.Conn }

// SetWriteDeadline implements net.Conn, and does nothing.
func (c quietConn) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline implements net.Conn.
func (c quietConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// A stream is a TLS connection. One goroutine at a time reads.
type stream struct {
	*tls.Conn
	wire *wire.Conn

	once    sync.Once
	closing sync.WaitGroup
}

// Close implements io.Closer, as native.Stream wants it: whoever waits returns
// at once, and the client is told of the end if it listens.
func (s *stream) Close() error {
	s.once.Do(func() {
		_ = s.wire.SetReadDeadline(time.Unix(1, 0)) // a closed connection has nobody waiting either
		s.closing.Go(func() {
			stuck := time.AfterFunc(closeGrace, s.wire.Abort)
			_ = s.Conn.Close() // the stream is over, however that comes out
			_ = s.wire.Close() // if TLS has not
			<-s.wire.Done()
			stuck.Stop()
		})
	})
	return nil
}

// native returns s as the native server wants it.
func (s *stream) native(remote netip.AddrPort) *native.Stream {
	state := s.ConnectionState()
	return &native.Stream{
		ReadWriteCloser: s,
		Transport:       "tcp",
		Binding:         protocol.BindingTLS,
		Exporter: func(label string) ([]byte, error) {
			return state.ExportKeyingMaterial(label, nil, protocol.ExporterSize)
		},
		Remote: remote,
		Opened: func() {
			_ = s.wire.SetReadDeadline(time.Time{}) // or it has gone
			s.wire.Grow()
		},
	}
}
