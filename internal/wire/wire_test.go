package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"transferd/internal/testnet"
)

// closeConn closes c and waits for it.
func closeConn(c *Conn) {
	_ = c.Close()
	<-c.Done()
}

// gate is a connection whose writes wait for permission, and are recorded.
type gate struct {
	net.Conn
	pass chan struct{}

	mu     sync.Mutex
	writes [][]byte
}

func (g *gate) Write(p []byte) (int, error) {
	<-g.pass
	g.mu.Lock()
	defer g.mu.Unlock()
	g.writes = append(g.writes, bytes.Clone(p))
	return len(p), nil
}

func TestGathersWhileAWriteIsRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, peer := testnet.Pipe()
		defer func() { _ = peer.Close() }()
		g := &gate{Conn: conn, pass: make(chan struct{}, 100)}
		w := New(g)
		write := func(text string) {
			t.Helper()
			if n, err := w.Write([]byte(text)); err != nil || n != len(text) {
				t.Errorf("Write(%q) = %d, %v", text, n, err)
			}
		}
		write("lone")
		synctest.Wait() // the flusher has taken it, and waits at the gate
		write("a")
		write("b")
		write("c")
		g.pass <- struct{}{}
		g.pass <- struct{}{}
		synctest.Wait()
		write("late")
		g.pass <- struct{}{}
		closeConn(w)
		var got []string
		for _, p := range g.writes {
			got = append(got, string(p))
		}
		if want := []string{"lone", "abc", "late"}; len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
			t.Errorf("writes are %q, want %q", got, want)
		}
		if _, err := w.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Write after Close = %v", err)
		}
	})
}

func TestSendsALonePacketAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, peer := testnet.Pipe()
		w := New(conn)
		start := time.Now()
		if _, err := w.Write([]byte("ping")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 4)
		if _, err := io.ReadFull(peer, got); err != nil || string(got) != "ping" || !time.Now().Equal(start) {
			t.Errorf("the other end read %q, %v after %v", got, err, time.Since(start))
		}
		closeConn(w)
	})
}

func TestCarriesEverythingBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := testnet.Pipe()
		left, right := New(a), New(b)
		left.Grow()
		data := make([]byte, 3*Buffer+17)
		for i := range data {
			data[i] = byte(i * 7)
		}
		var group sync.WaitGroup
		for _, w := range []*Conn{left, right} {
			group.Go(func() {
				for rest := data; len(rest) > 0; {
					n, err := w.Write(rest[:min(len(rest), 70_001)])
					if err != nil {
						t.Error(err)
						return
					}
					rest = rest[n:]
				}
			})
			group.Go(func() {
				got := make([]byte, len(data))
				if _, err := io.ReadFull(w, got); err != nil || !bytes.Equal(got, data) {
					t.Errorf("read: %v, equal %v", err, bytes.Equal(got, data))
				}
			})
		}
		group.Wait()
		closeConn(left)
		closeConn(right)
	})
}

func TestCloseSendsWhatWasWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, peer := testnet.Pipe()
		w := New(conn)
		_, _ = w.Write([]byte("goodbye"))
		closeConn(w)
		if got, err := io.ReadAll(peer); err != nil || string(got) != "goodbye" {
			t.Errorf("the other end read %q, %v", got, err)
		}
	})
}

func TestCloseOfADeadLinkIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, _ := testnet.Pipe() // nobody reads
		w := New(conn)
		var group sync.WaitGroup
		group.Go(func() {
			_, err := w.Write(make([]byte, 4*Buffer))
			if err == nil {
				t.Error("Write of more than fits returned before Close")
			}
		})
		synctest.Wait()
		start := time.Now()
		closeConn(w)
		if took := time.Since(start); took > closeGrace {
			t.Errorf("Close took %v", took)
		}
		group.Wait()
	})
}

func TestTellsABrokenConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, peer := testnet.Pipe()
		w := New(conn)
		peer.Cut()
		_, _ = w.Write([]byte("x")) // may still be taken
		synctest.Wait()
		if _, err := w.Write([]byte("y")); err == nil {
			t.Error("Write on a broken connection = nil")
		}
		if _, err := w.Read(make([]byte, 1)); err == nil || !w.Broken() {
			t.Errorf("Read = %v, broken = %v", err, w.Broken())
		}
		closeConn(w)
	})
}

func TestSilenceIsCountedFromTheLastByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, peer := testnet.Pipe()
		w := New(conn)
		<-time.After(3 * time.Second)
		if got := w.Silence(); got != 3*time.Second {
			t.Errorf("Silence = %v before the first byte, want 3s", got)
		}
		w.Grow()
		_, _ = peer.Write([]byte("x"))
		_, _ = w.Read(make([]byte, 1))
		<-time.After(2 * time.Second)
		if got := w.Silence(); got != 2*time.Second || w.Heard() != 3*time.Second {
			t.Errorf("Silence = %v, Heard = %v, want 2s and 3s", got, w.Heard())
		}
		closeConn(w)
	})
}

func BenchmarkLonePacket(b *testing.B) {
	var lc net.ListenConfig
	l, err := lc.Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go func() {
		conn, err := l.Accept()
		if err == nil {
			_, _ = io.Copy(conn, conn)
			_ = conn.Close()
		}
	}()
	conn, err := new(net.Dialer).DialContext(b.Context(), "tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	w := New(conn)
	packet := make([]byte, 64)
	for b.Loop() {
		if _, err := w.Write(packet); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(w, packet); err != nil {
			b.Fatal(err)
		}
	}
	closeConn(w)
	_ = l.Close()
}
