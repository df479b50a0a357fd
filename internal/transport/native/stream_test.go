package native

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"transferd/internal/testnet"
	"transferd/internal/tree"
	"transferd/protocol"
)

// streamPair returns both ends of an open stream, and the connection of each.
func streamPair() (client, server *stream, clientConn, serverConn *testnet.Conn) {
	clientConn, serverConn = testnet.Pipe()
	client = newStream(&Stream{ReadWriteCloser: clientConn, Transport: "tcp"}, protocol.FromServer)
	server = newStream(&Stream{ReadWriteCloser: serverConn, Transport: "tcp"}, protocol.FromClient)
	client.open()
	server.open()
	return client, server, clientConn, serverConn
}

// skim reads frames until the stream ends, and returns why.
func skim(s *stream) error {
	for {
		if _, err := s.next(); err != nil {
			return err
		}
	}
}

func TestStreamCarriesFramesBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server, _, _ := streamPair()
		defer client.Close()
		defer server.Close()
		payload := bytes.Repeat([]byte("0123456789"), 50_000)
		if err := client.send(t.Context(), 7, &protocol.Mkdir{Place: protocol.Place{Path: "a"}, Perm: 0o755}); err != nil {
			t.Fatal(err)
		}
		var group sync.WaitGroup
		group.Go(func() {
			for _, n := range []int{0, 1, smallPayload, smallPayload + 1, len(payload)} {
				m := protocol.Data{Length: uint32(n), Flags: protocol.DataLast, Payload: payload[:n]}
				if err := client.sendData(t.Context(), 8, &m); err != nil {
					t.Error(err)
				}
			}
		})
		f, err := server.next()
		if m, ok := f.Message.(*protocol.Mkdir); err != nil || f.ID != 7 || !ok || m.Path != "a" {
			t.Fatalf("next = %+v, %v", f, err)
		}
		for _, n := range []int{0, 1, smallPayload, smallPayload + 1, len(payload)} {
			f, err := server.next()
			if err != nil || f.Data == nil || f.ID != 8 || int(f.Data.Length) != n || server.left() != n {
				t.Fatalf("next = %+v, %v, want DATA of %d", f, err, n)
			}
			got := make([]byte, n)
			if _, err := io.ReadFull(server, got); err != nil || !bytes.Equal(got, payload[:n]) {
				t.Errorf("payload of %d: %v", n, err)
			}
		}
		group.Wait()
	})
}

func TestAPayloadThatNobodyReadsIsSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server, _, _ := streamPair()
		defer client.Close()
		defer server.Close()
		m := protocol.Data{Length: 100_000, Payload: make([]byte, 100_000)}
		if err := client.sendData(t.Context(), 1, &m); err != nil {
			t.Fatal(err)
		}
		if err := client.send(t.Context(), 2, &protocol.Suspend{}); err != nil {
			t.Fatal(err)
		}
		if f, err := server.next(); err != nil || f.Data == nil {
			t.Fatal(f, err)
		}
		if f, err := server.next(); err != nil || f.ID != 2 {
			t.Errorf("next = %+v, %v, want the frame behind the payload", f, err)
		}
	})
}

func TestSmallFramesDoNotWaitBehindManyPayloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server, conn, _ := streamPair()
		defer server.Close()
		defer client.Close()
		conn.Slow(1<<20, 0)
		var group sync.WaitGroup
		for range 4 { // four senders, sixteen MiB between them
			group.Go(func() {
				payload := make([]byte, protocol.MaxData)
				for range 4 {
					m := protocol.Data{Length: protocol.MaxData, Payload: payload}
					_ = client.sendData(t.Context(), 1, &m)
				}
			})
		}
		synctest.Wait()
		began := time.Now()
		if err := client.post(2, &protocol.Commit{}); err != nil {
			t.Fatal(err)
		}
		for {
			f, err := server.next()
			if err != nil {
				t.Fatal(err)
			}
			if f.ID == 2 {
				break
			}
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("a small frame took %v at 1 MiB/s", took)
		}
		client.Close()
		group.Wait()
	})
}

func TestTurnsAreExclusive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server, _, _ := streamPair()
		defer client.Close()
		defer server.Close()
		var group sync.WaitGroup
		for id := uint64(1); id <= 8; id++ {
			group.Go(func() {
				if err := client.acquire(t.Context()); err != nil {
					t.Error(err)
					return
				}
				defer client.release()
				for i := range 5 {
					m := protocol.Data{Offset: int64(i), Length: 40_000, Payload: make([]byte, 40_000)}
					if err := client.data(id, &m); err != nil {
						t.Error(err)
					}
				}
			})
		}
		for range 8 {
			var id uint64
			for i := range 5 {
				f, err := server.next()
				if err != nil || f.Data == nil || f.Data.Offset != int64(i) || i > 0 && f.ID != id {
					t.Fatalf("frame %d: %+v, %v, want one of %d", i, f, err, id)
				}
				id = f.ID
			}
		}
		group.Wait()
	})
}

func TestAnIdleStreamPingsAndMeasures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server, a, b := streamPair()
		a.Slow(0, 20*time.Millisecond)
		b.Slow(0, 30*time.Millisecond)
		var group sync.WaitGroup
		for _, s := range []*stream{client, server} {
			group.Go(func() { _ = skim(s) })
		}
		<-time.After(10 * time.Minute)
		if err := errors.Join(client.cause(), server.cause()); err != nil {
			t.Errorf("an idle stream was lost: %v", err)
		}
		if got := client.roundTrip(); got != 50*time.Millisecond {
			t.Errorf("roundTrip = %v, want 50ms", got)
		}
		client.Close()
		server.Close()
		group.Wait()
	})
}

func TestASilentPeerIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server, _, conn := streamPair()
		defer server.Close()
		var group sync.WaitGroup
		group.Go(func() { _ = skim(server) })
		conn.Stall()
		began := time.Now()
		err := skim(client)
		if took := time.Since(began); !errors.Is(err, tree.ErrLost) || !errors.Is(err, errSilent) || took != protocol.DeadAfter*time.Second {
			t.Errorf("next = %v after %v, want lost after %d s", err, took, protocol.DeadAfter)
		}
		if err := client.send(t.Context(), 1, &protocol.Suspend{}); !errors.Is(err, errSilent) {
			t.Errorf("send = %v, want the same error", err)
		}
		server.Close()
		group.Wait()
	})
}

func TestAStreamThatIsNotReadIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server, _, _ := streamPair()
		defer client.Close()
		defer server.Close()
		<-time.After(time.Minute) // the buffers of whoever should read are full, say
		if err := errors.Join(client.cause(), server.cause()); err != nil {
			t.Errorf("lost: %v", err)
		}
	})
}

func TestGoodbyeIsTheLastWord(t *testing.T) {
	for _, code := range []protocol.Code{protocol.CodeDone, protocol.CodeBadMessage} {
		synctest.Test(t, func(t *testing.T) {
			client, server, _, _ := streamPair()
			for i := range 100 {
				_ = server.post(uint64(i+1), &protocol.OK{})
			}
			var group sync.WaitGroup
			group.Go(func() {
				began := time.Now()
				server.goodbye(code, "that was it")
				if took := time.Since(began); took > 0 {
					t.Errorf("%v: goodbye took %v", code, took)
				}
			})
			for range 100 {
				if f, err := client.next(); err != nil || f.Type != protocol.TypeOK {
					t.Fatal(f, err)
				}
			}
			_, err := client.next()
			var said *PeerError
			if !errors.As(err, &said) || said.Code != code || said.Message != "that was it" {
				t.Errorf("next = %v", err)
			}
			client.Close()
			group.Wait()
			if err := server.post(1, &protocol.OK{}); !errors.Is(err, tree.ErrLost) {
				t.Errorf("post after goodbye = %v", err)
			}
		})
	}
}

func TestGoodbyeToADeadLinkIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server, _, _ := streamPair()
		defer client.Close()
		_ = server.send(t.Context(), 1, &protocol.Extended{Body: make([]byte, 60_000)})
		for range 10 { // nobody reads it
			_ = server.post(1, &protocol.Extended{Body: make([]byte, 60_000)})
		}
		began := time.Now()
		server.goodbye(protocol.CodeShutdown, "")
		if took := time.Since(began); took != goodbyeGrace {
			t.Errorf("goodbye took %v", took)
		}
	})
}

func TestAFloodEndsTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server, _, _ := streamPair()
		defer client.Close()
		defer server.Close()
		body := make([]byte, 60_000)
		for range 2 * flood / len(body) {
			if err := server.post(1, &protocol.Extended{Body: body}); err != nil {
				if !errors.Is(err, errFlood) {
					t.Errorf("post = %v", err)
				}
				return
			}
		}
		t.Error("post never ended")
	})
}

func TestAFrameFromTheWrongSideIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server, _, _ := streamPair()
		defer client.Close()
		defer server.Close()
		_ = client.post(1, &protocol.OK{})
		_, err := server.next()
		if broken, ok := isBroken(err); !ok || broken.Code != protocol.CodeBadState {
			t.Errorf("next = %v, want BAD_STATE", err)
		}
	})
}

func TestCutsEndEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server, conn, _ := streamPair()
		defer client.Close()
		defer server.Close()
		conn.CutAfter(100_000)
		var group sync.WaitGroup
		group.Go(func() {
			for {
				m := protocol.Data{Length: 30_000, Payload: make([]byte, 30_000)}
				if err := client.sendData(t.Context(), 1, &m); err != nil {
					if !errors.Is(err, tree.ErrLost) {
						t.Errorf("sendData = %v", err)
					}
					return
				}
			}
		})
		if err := skim(server); !errors.Is(err, tree.ErrLost) {
			t.Errorf("next = %v", err)
		}
		group.Wait()
	})
}

func TestDataAllocatesNothing(t *testing.T) {
	client := newStream(&Stream{ReadWriteCloser: nowhere{make(chan struct{})}}, protocol.FromServer)
	defer client.Close()
	m := protocol.Data{Length: 100_000, Payload: make([]byte, 100_000)}
	if n := testing.AllocsPerRun(100, func() {
		if err := client.sendData(t.Context(), 1, &m); err != nil {
			t.Error(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations for a DATA", n)
	}
}

// nowhere takes everything and says nothing.
type nowhere struct{ closed chan struct{} }

func (n nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (n nowhere) Read([]byte) (int, error)    { <-n.closed; return 0, io.EOF }
func (n nowhere) Close() error {
	select {
	case <-n.closed:
	default:
		close(n.closed)
	}
	return nil
}

// fixed is a connection on which data comes, and then nothing more.
type fixed struct{ *bytes.Reader }

func (fixed) Write(p []byte) (int, error) { return len(p), nil }
func (fixed) Close() error                { return nil }

func FuzzNext(f *testing.F) {
	add := func(id uint64, m protocol.Message) {
		b, err := protocol.Append(nil, id, m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(append(b, b...))
	}
	add(0, &protocol.Ping{Nonce: 1})
	add(0, &protocol.Goodbye{Code: protocol.CodeDone})
	add(1, &protocol.Mkdir{Place: protocol.Place{Path: "a"}})
	add(2, &protocol.Data{Length: 3, Payload: []byte("abc"), Flags: protocol.DataLast})
	add(3, &protocol.Put{Place: protocol.Place{Path: "a"}, Size: 3, Data: []byte("abc")})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, peer := range []protocol.Sender{protocol.FromClient, protocol.FromServer} {
			s := newStream(&Stream{ReadWriteCloser: fixed{bytes.NewReader(b)}}, peer)
			s.open()
			for {
				got, err := s.next()
				if err != nil {
					break
				}
				n := 0
				for _, is := range []bool{got.Message != nil, got.Data != nil, got.Refused != nil} {
					if is {
						n++
					}
				}
				if n != 1 {
					t.Fatalf("a frame that is %d things: %+v", n, got)
				}
			}
			s.Close()
		}
	})
}

// TestALostConnectionIsToldWithoutJargon: a person wants to know what happened, and
// not by which call.
func TestALostConnectionIsToldWithoutJargon(t *testing.T) {
	number := syscall.ECONNRESET
	for _, test := range []struct {
		cause error
		want  string
	}{
		{&net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", number)}, number.Error()},
		{&net.OpError{Op: "read", Net: "tcp", Err: net.ErrClosed}, ""},
		{errCutShort, errCutShort.Error()},
		{&PeerError{Code: protocol.CodeShutdown, Message: "the server ends"}, "the other end says: the server ends"},
		{&PeerError{Code: protocol.CodeShutdown}, "the other end says: SHUTDOWN"},
	} {
		if got, want := (&lostError{test.cause}).Error(), strings.TrimSuffix(tree.ErrLost.Error()+": "+test.want, ": "); got != want {
			t.Errorf("%#v is told as %q, want %q", test.cause, got, want)
		}
	}
}
