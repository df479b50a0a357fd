package tcpd

import (
	"net"
	"testing"
	"time"
)

// A loopback is one real port of a rig.
func (r *rig) loopback() (addr string, stop func()) {
	r.t.Helper()
	l, err := new(net.ListenConfig).Listen(r.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- r.server.Serve(r.t.Context(), l) }()
	return l.Addr().String(), func() {
		_ = l.Close()
		<-served //nolint:errcheck // it was closed under its feet
	}
}

// The same as over pipes, with the kernel's queues and descriptors.
func TestAThousandHalfOpenSocketsKeepNobodyOut(t *testing.T) {
	r := newRig(t, Limits{Handshakes: 50, HandshakeTimeout: time.Hour})
	r.run(func() {
		addr, stop := r.loopback()
		defer stop()
		dial := func() net.Conn {
			t.Helper()
			conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			return conn
		}
		for i := range 1000 {
			conn := dial()
			defer func() { _ = conn.Close() }()
			if i%10 == 0 {
				_, _ = conn.Write([]byte("\x16\x03\x01\x02\x00\x01"))
			}
		}
		p := r.over(dial(), nil)
		p.login(r.key)
		if err := p.works(1); err != nil {
			t.Error(err)
		}
		if n := r.server.pool.Len(); n > 50 {
			t.Errorf("%d handshakes are pending, the limit is 50", n)
		}
		p.close()
	})
}
