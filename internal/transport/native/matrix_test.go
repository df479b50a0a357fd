package native_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"transferd/internal/session"
	"transferd/internal/store"
	"transferd/internal/testnet"
	"transferd/internal/transfer"
	"transferd/internal/transport/native"
	"transferd/internal/tree"
	"transferd/protocol"
)

// The fault matrix: a copy of a few hundred bytes whose first connection breaks
// after every number of bytes, in each direction. Whatever happens, the copy
// ends, by itself or when it is started again, in the same bytes.

// A fault breaks what one end sends after n bytes.
type fault struct {
	name string
	set  func(c *testnet.Conn, n int64)
	tls  bool // the connection is TLS, so that the fault is noticed
}

func faults() []fault {
	return []fault{
		{"cut", func(c *testnet.Conn, n int64) { c.CutAfter(n) }, false},
		{"stall", func(c *testnet.Conn, n int64) { c.StallAfter(n) }, false},
		{"flip", func(c *testnet.Conn, n int64) { c.FlipAfter(n) }, true},
	}
}

// step is how many bytes apart the faults are: every byte with TRANSFER_SOAK=1,
// else every 13th from a place that changes.
func step() (first, by int64) {
	if os.Getenv("TRANSFER_SOAK") == "1" {
		return 1, 1
	}
	const coarse = 13
	return 1 + mathrand.Int64N(coarse), coarse
}

func TestFaultMatrix(t *testing.T) {
	t.Parallel()
	for _, download := range []bool{false, true} {
		for _, whole := range []bool{false, true} { // PUT and GET, or BEGIN and READ
			for _, f := range faults() {
				for _, up := range []bool{true, false} { // the direction that breaks
					name := fmt.Sprintf("download=%v/whole=%v/%s/up=%v", download, whole, f.name, up)
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						const never = 1 << 40
						var length int64
						synctest.Test(t, func(t *testing.T) { length = broken(t, f, download, whole, up, never) })
						first, by := step()
						for n := first; n <= length; n += by {
							synctest.Test(t, func(t *testing.T) { broken(t, f, download, whole, up, n) })
							if t.Failed() {
								t.Fatalf("the first failure is at byte %d of %d", n, length)
							}
						}
						t.Logf("%d bytes, from %d by %d", length, first, by)
					})
				}
			}
		}
	}
}

// broken runs one copy whose first connection breaks at byte n, and returns how
// many bytes that direction carried.
func broken(t *testing.T, f fault, download, whole, up bool, n int64) int64 {
	t.Helper()
	near, far := openStore(t), openStore(t)
	content := make([]byte, 700)
	_, _ = rand.Read(content)
	src := near
	if download {
		src = far
	}
	write(t, filepath.Join(src.dir, "src"), content)

	server := native.NewServer(native.ServerConfig{Software: "test", Log: slog.New(slog.DiscardHandler)})
	var serving sync.WaitGroup
	var first, watched *testnet.Conn
	background := context.WithoutCancel(t.Context()) // a server does not end with the test
	dial := func(context.Context) (*native.Stream, native.Prover, error) {
		client, remote := testnet.Pipe()
		if first == nil {
			first = client
			watched = client
			if !up {
				watched = remote
			}
			f.set(watched, n)
		}
		a, b := stream(client), stream(remote)
		_ = remote.SetDeadline(time.Now().Add(time.Minute)) // of the handshake
		// Not by the first Read or Write: who waits for those would wait for a
		// mutex, which stops the fake clock.
		greet, answer := func() error { return nil }, func() error { return nil }
		if f.tls {
			ca, cb := tlsPair(t, client, remote)
			a.ReadWriteCloser, b.ReadWriteCloser = ca, cb
			greet, answer = ca.Handshake, cb.Handshake
		}
		serving.Go(func() {
			if answer() != nil {
				_ = remote.Close()
				return
			}
			_ = server.Serve(background, b, native.ServeOptions{
				Entered: func(string, bool) error { return remote.SetDeadline(time.Time{}) },
				Guest: func(context.Context) (native.Guest, error) {
					return native.Guest{User: "alice", Tree: session.New(far.Store, session.Login{User: "alice", Permissions: session.All}), Home: tree.Root, Confined: true}, nil
				},
			})
		})
		_ = client.SetDeadline(time.Now().Add(time.Minute))
		if err := greet(); err != nil {
			_ = client.Close()
			return nil, nil, err
		}
		return a, nil, client.SetDeadline(time.Time{})
	}
	finished := false
	var last error
	for attempt := 0; attempt < 3 && !finished; attempt++ {
		dialling, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		client, err := native.NewClient(dialling, native.ClientOptions{Control: dial, Label: "alice@test"})
		cancel()
		if err != nil {
			continue
		}
		err = copyOnce(t, client, near, download, whole)
		if cerr := client.Close(); cerr != nil && !errors.Is(cerr, tree.ErrLost) {
			t.Errorf("byte %d: Close: %v", n, cerr)
		}
		finished = err == nil
		last = err
	}
	if !finished {
		t.Errorf("byte %d: never done: %v", n, last)
	}
	dst := far
	if download {
		dst = near
	}
	got, err := os.ReadFile(filepath.Join(dst.dir, "dst"))
	if err != nil || sha256.Sum256(got) != sha256.Sum256(content) {
		t.Errorf("byte %d: %d bytes arrived, %v", n, len(got), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		t.Errorf("byte %d: Shutdown: %v", n, err)
	}
	serving.Wait()
	if left, _ := filepath.Glob(filepath.Join(dst.dir, ".transfer-*")); len(left) > 0 {
		t.Errorf("byte %d: left over: %q", n, left)
	}
	return watched.Sent()
}

func copyOnce(t *testing.T, client *native.Client, near *disk, download, whole bool) error {
	t.Helper()
	var remote, local any = client, near.Store
	if !whole {
		remote, local = plain{client}, plain{near.Store}
	}
	from, to := transfer.Place{Tree: local.(tree.Source), Path: "src", Label: "src"}, transfer.Place{Tree: remote.(tree.Source), Path: "dst", Label: "dst", Host: "alice@test"}
	if download {
		from = transfer.Place{Tree: remote.(tree.Source), Path: "src", Label: "src", Host: "alice@test"}
		to = transfer.Place{Tree: local.(tree.Source), Path: "dst", Label: "dst"}
	}
	_, err := transfer.Copy(t.Context(), to, []transfer.Place{from}, transfer.Options{
		Retries: 5, Machine: "m", Preserve: transfer.Preserve{Mode: true, Times: true},
	})
	return err
}

// plain is a tree without Put and Get.
type plain struct{ tree.Sink }

// Transport implements tree.Carrier.
func (p plain) Transport() string {
	if c, ok := p.Sink.(tree.Carrier); ok {
		return c.Transport()
	}
	return ""
}

// A disk is a store and where it lies.
type disk struct {
	*store.Store
	dir string
}

// memoryDir is a directory in memory where there is one: thousands of copies
// would wait for a disk's syncs, and look at nothing that those could change.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "transfer-test-") //nolint:usetesting // not where t.TempDir is
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func openStore(t *testing.T) *disk {
	t.Helper()
	dir := memoryDir(t)
	s, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &disk{s, dir}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o640); err != nil {
		t.Fatal(err)
	}
}

func stream(c *testnet.Conn) *native.Stream {
	return &native.Stream{ReadWriteCloser: c, Transport: "ssh", Binding: protocol.BindingSSH, Bound: []byte("one connection")}
}

// tlsPair puts TLS on both ends of a connection.
func tlsPair(t *testing.T, client, server *testnet.Conn) (c, s *tls.Conn) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c = tls.Client(client, &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true})
	s = tls.Server(server, &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	})
	return c, s
}
