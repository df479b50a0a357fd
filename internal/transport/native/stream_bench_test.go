package native

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"math/big"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"transferd/internal/store"
	"transferd/internal/tree"
	"transferd/internal/wire"
	"transferd/protocol"
)

// tlsPair returns both ends of a TLS connection over loopback, as the programs
// use it, cut into frames.
func tlsPair(tb testing.TB) (client, server *stream) {
	tb.Helper()
	near, far := tlsConns(tb)
	client = newStream(&Stream{ReadWriteCloser: near}, protocol.FromServer)
	server = newStream(&Stream{ReadWriteCloser: far}, protocol.FromClient)
	client.open()
	server.open()
	tb.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

func tlsConns(tb testing.TB) (client, server *tls.Conn) {
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
	return ca, cb
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

// whole returns a client of a server with a store, over TLS.
func whole(b *testing.B, o ClientOptions) *Client {
	b.Helper()
	st, err := store.Open(b.TempDir(), store.Options{})
	if err != nil {
		b.Fatal(err)
	}
	server := NewServer(ServerConfig{Log: slog.New(slog.DiscardHandler)})
	var group sync.WaitGroup
	dial := func() *Stream {
		near, far := tlsConns(b)
		bound := []byte("both know")
		group.Go(func() {
			_ = server.Serve(b.Context(), &Stream{ReadWriteCloser: far, Transport: "ssh", Binding: protocol.BindingSSH, Bound: bound}, ServeOptions{
				Guest: func(context.Context) (Guest, error) { return Guest{User: "u", Tree: st, Home: tree.Root}, nil },
			})
		})
		return &Stream{ReadWriteCloser: near, Transport: "ssh", Binding: protocol.BindingSSH, Bound: bound}
	}
	o.Control = func(context.Context) (*Stream, Prover, error) { return dial(), nil, nil }
	o.Join = func(context.Context, *protocol.Welcome) (*Stream, error) { return dial(), nil }
	c, err := NewClient(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = c.Close()
		_ = server.Shutdown(context.Background())
		group.Wait()
		_ = st.Close()
	})
	return c
}

func BenchmarkUpload(b *testing.B) {
	const size = 256 << 20
	data := noise(size)
	for _, streams := range []int{1, 2, 4} {
		b.Run(strconv.Itoa(streams), func(b *testing.B) {
			c := whole(b, ClientOptions{Streams: streams})
			b.SetBytes(size)
			for range b.N {
				w, err := c.Begin(b.Context(), tree.Upload{Path: "f", Size: size, ChunkSize: 1 << 20, Fsync: tree.FsyncOff})
				if err != nil {
					b.Fatal(err)
				}
				f := tree.Final{Size: size, HasDigest: true, Values: make([]tree.Value, size>>20)}
				var group sync.WaitGroup
				var next atomic.Int64
				for range 4 {
					group.Go(func() {
						for i := next.Add(1) - 1; i < size>>20; i = next.Add(1) - 1 {
							part := data[i<<20:][:1<<20]
							f.Values[i] = tree.ChunkValue(part, i, 1<<20, false)
							if err := w.WriteChunk(b.Context(), tree.Chunk{Index: i, Data: part, Value: f.Values[i]}); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				group.Wait()
				f.Digest = tree.MergeValues(f.Values)
				if _, err := w.Commit(b.Context(), f); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPut(b *testing.B) {
	c := whole(b, ClientOptions{})
	data := noise(4096)
	digest := tree.Digest(tree.ChunkValue(data, 0, 1<<20, true))
	b.ReportAllocs()
	var group sync.WaitGroup
	var next atomic.Int64
	for range 256 {
		group.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				p := tree.Path("f" + strconv.FormatInt(i, 10))
				if _, err := c.Put(b.Context(), tree.Small{Path: p, Data: data, Digest: digest, Fsync: tree.FsyncOff}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
}
