package native

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"

	"transferd/internal/wire"
	"transferd/protocol"
)

// tlsPair returns both ends of a TLS connection over loopback, as the programs
// use it.
func tlsPair(tb testing.TB) (client, server *stream) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	var d net.Dialer
	near, err := d.DialContext(tb.Context(), "tcp", l.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	a, b := wire.New(near), wire.New(far)
	a.Grow()
	b.Grow()
	ca := tls.Client(a, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
	cb := tls.Server(b, &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS13,
	})
	var group sync.WaitGroup
	group.Go(func() { _ = ca.HandshakeContext(tb.Context()) })
	if err := cb.HandshakeContext(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	group.Wait()
	client = newStream(&Stream{ReadWriteCloser: ca}, protocol.FromServer)
	server = newStream(&Stream{ReadWriteCloser: cb}, protocol.FromClient)
	client.open()
	server.open()
	tb.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

func BenchmarkDataOverTLS(b *testing.B) {
	client, server := tlsPair(b)
	payload := make([]byte, protocol.MaxData)
	b.SetBytes(protocol.MaxData)
	b.ReportAllocs()
	var group sync.WaitGroup
	group.Go(func() {
		m := protocol.Data{Length: protocol.MaxData, Payload: payload}
		for range b.N {
			if err := client.sendData(b.Context(), 1, &m); err != nil {
				b.Error(err)
				return
			}
		}
	})
	buf := make([]byte, protocol.MaxData)
	for range b.N {
		if _, err := server.next(); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(server, buf); err != nil {
			b.Fatal(err)
		}
	}
	group.Wait()
}

// Requests of 4 KiB and their answers, many at the same time: what small files
// cost the streams.
func BenchmarkSmallOverTLS(b *testing.B) {
	client, server := tlsPair(b)
	data := make([]byte, 4096)
	b.ReportAllocs()
	var group sync.WaitGroup
	group.Go(func() {
		for i := range b.N {
			m := &protocol.Put{Place: protocol.Place{Path: "directory/name of a file"}, Size: 4096, Data: data}
			if err := client.send(b.Context(), uint64(i+1), m); err != nil {
				b.Error(err)
				return
			}
		}
	})
	group.Go(func() {
		for range b.N {
			f, err := server.next()
			if err != nil {
				b.Error(err)
				return
			}
			_ = server.post(f.ID, &protocol.Committed{})
		}
	})
	for range b.N {
		if _, err := client.next(); err != nil {
			b.Fatal(err)
		}
	}
	group.Wait()
}
