package testnet

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestBytesArriveInOrder(t *testing.T) {
	a, b := Pipe()
	want := bytes.Repeat([]byte("0123456789abcdef"), 3*BufferSize/16)
	done := make(chan error, 1)
	go func() {
		_, err := a.Write(want)
		done <- errors.Join(err, a.CloseWrite())
	}()
	got, err := io.ReadAll(b)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, %v; want %d", len(got), err, len(want))
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestCutAfterCountsBytes(t *testing.T) {
	a, b := Pipe()
	a.CutAfter(3)
	if n, err := a.Write([]byte("hello")); n != 3 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("Write = %d, %v; want 3 and a reset", n, err)
	}
	if _, err := b.Read(make([]byte, 8)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("Read = %v, want a reset", err)
	}
	if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the other end's Write = %v, want a reset", err)
	}
}

func TestFlipAfterFlipsOneByte(t *testing.T) {
	a, b := Pipe()
	a.FlipAfter(2)
	_, _ = a.Write([]byte("abcd"))
	buf := make([]byte, 4)
	if _, err := io.ReadFull(b, buf); err != nil || string(buf) != "ab\x9cd" {
		t.Errorf("read %q, %v; want the third byte inverted", buf, err)
	}
}

func TestCloseLetsWhatIsOnItsWayArrive(t *testing.T) {
	a, b := Pipe()
	_, _ = a.Write([]byte("last words"))
	_ = a.Close()
	if got, err := io.ReadAll(b); err != nil || string(got) != "last words" {
		t.Errorf("ReadAll = %q, %v", got, err)
	}
	if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("Write to a closed end = %v, want EPIPE", err)
	}
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read of a closed end = %v, want net.ErrClosed", err)
	}
}

func TestStallAndDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Pipe()
		a.Stall()
		_, _ = a.Write([]byte("x"))
		start := time.Now()
		_ = b.SetReadDeadline(start.Add(time.Minute))
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("Read of a stalled stream = %v after %v", err, time.Since(start))
		}
		_ = b.SetReadDeadline(time.Time{})
		a.Resume()
		buf := make([]byte, 1)
		if _, err := b.Read(buf); err != nil || buf[0] != 'x' {
			t.Errorf("Read after Resume = %q, %v", buf, err)
		}
		_ = a.SetWriteDeadline(time.Now().Add(time.Second))
		if n, err := a.Write(make([]byte, 2*BufferSize)); n != BufferSize || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Write to nobody = %d, %v; want %d and a deadline", n, err, BufferSize)
		}
	})
}

func TestSlowTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Pipe()
		a.Slow(1000, 50*time.Millisecond)
		start := time.Now()
		_, _ = a.Write(make([]byte, 1000))
		_, _ = a.Write(make([]byte, 1000))
		if _, err := io.ReadFull(b, make([]byte, 2000)); err != nil || time.Since(start) != 2050*time.Millisecond {
			t.Errorf("2000 bytes at 1000/s and 50 ms: %v, %v", time.Since(start), err)
		}
	})
}

func TestListener(t *testing.T) {
	l := Listen()
	client, err := l.DialFrom(t.Context(), "2001:db8::7")
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if host, _, _ := net.SplitHostPort(server.RemoteAddr().String()); host != "2001:db8::7" {
		t.Errorf("RemoteAddr = %v", server.RemoteAddr())
	}
	_ = l.Close()
	if _, err := l.Dial(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Dial after Close = %v, want refused", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close = %v, want net.ErrClosed", err)
	}
	_, _ = client.Write([]byte("x"))
	if _, err := io.ReadFull(server, make([]byte, 1)); err != nil {
		t.Errorf("a connection died with its listener: %v", err)
	}
}

func TestStallAfterHoldsTheRest(t *testing.T) {
	a, b := Pipe()
	a.StallAfter(3)
	if n, err := a.Write([]byte("hello")); n != 5 || err != nil {
		t.Errorf("Write = %d, %v", n, err)
	}
	_ = a.CloseWrite()
	buf := make([]byte, 8)
	if n, err := io.ReadFull(b, buf[:3]); err != nil || string(buf[:n]) != "hel" {
		t.Errorf("Read = %q, %v", buf[:n], err)
	}
	_ = b.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if n, err := b.Read(buf); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("then Read = %d, %v; nothing should come", n, err)
	}
}
