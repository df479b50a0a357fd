package sshd

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"transferd/internal/testnet"
)

func TestWireDeliversEverythingBeforeItCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := testnet.Pipe()
		w := newWire(a)
		want := bytes.Repeat([]byte("abcdefgh"), 100_000)
		var got []byte
		var reading sync.WaitGroup
		reading.Go(func() { got, _ = io.ReadAll(b) })
		for rest := want; len(rest) > 0; {
			n := min(len(rest), 32<<10)
			if _, err := w.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		<-w.done
		reading.Wait()
		if !bytes.Equal(got, want) {
			t.Errorf("%d bytes arrived, want %d", len(got), len(want))
		}
		if _, err := w.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Write after Close = %v, want net.ErrClosed", err)
		}
	})
}

func TestWireGathersWhatCannotBeWrittenYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := testnet.Pipe()
		counter := &writeCounter{Conn: a}
		w := newWire(counter)
		a.Slow(1<<20, 0)
		for range 64 {
			if _, err := w.Write(make([]byte, 1024)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := io.ReadFull(b, make([]byte, 64<<10)); err != nil {
			t.Fatal(err)
		}
		if counter.count() >= 64 {
			t.Errorf("64 writes were handed on in %d pieces", counter.count())
		}
		_ = w.Close()
		<-w.done
	})
}

type writeCounter struct {
	net.Conn
	mu sync.Mutex
	n  int
}

func (c *writeCounter) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.n++
	c.mu.Unlock()
	return c.Conn.Write(p)
}

func (c *writeCounter) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

func TestWireDoesNotWaitForeverForAPeerThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := testnet.Pipe()
		w := newWire(a)
		var writing sync.WaitGroup
		writing.Go(func() {
			_, err := w.Write(make([]byte, testnet.BufferSize))
			for err == nil {
				_, err = w.Write(make([]byte, 32<<10))
			}
		})
		synctest.Wait() // everything is full now
		start := time.Now()
		_ = w.Close()
		<-w.done
		writing.Wait()
		if took := time.Since(start); took > closeGrace {
			t.Errorf("Close took %v", took)
		}
	})
}

func TestWireReportsABrokenConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := testnet.Pipe()
		w := newWire(a)
		b.Cut()
		var err error
		for range 3 {
			_, err = w.Write([]byte("x"))
			synctest.Wait()
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("Write on a cut connection = %v, want a reset", err)
		}
		_ = w.Close()
		<-w.done
	})
}
