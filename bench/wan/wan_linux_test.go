package wan

import (
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// line returns one way of a line between two sockets that keep packets apart.
func line(t *testing.T, l Link) (*way, *os.File, *os.File) {
	t.Helper()
	ends := make([]*os.File, 0, 4)
	for range 2 {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range pair {
			f := os.NewFile(uintptr(fd), "end")
			t.Cleanup(func() { _ = f.Close() })
			ends = append(ends, f)
		}
	}
	w := &way{link: l, from: ends[1], to: ends[2], queue: make(chan packet, 64)}
	done := make(chan struct{}, 2)
	go func() { w.receive(); done <- struct{}{} }()
	go func() { w.deliver(); done <- struct{}{} }()
	t.Cleanup(func() {
		_ = ends[1].Close()
		<-done
		<-done
	})
	return w, ends[0], ends[3]
}

func TestALineDelaysAndKeepsTheOrder(t *testing.T) {
	const delay = 30 * time.Millisecond
	_, in, out := line(t, Link{Delay: delay, Rate: 1e9, Queue: 1 << 20})
	start := time.Now()
	for i := range 20 {
		if _, err := fmt.Fprintf(in, "packet %02d", i); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, mtu)
	for i := range 20 {
		n, err := out.Read(buf)
		if want := fmt.Sprintf("packet %02d", i); err != nil || string(buf[:n]) != want {
			t.Fatalf("%q, %v, want %q", buf[:n], err, want)
		}
	}
	if took := time.Since(start); took < delay {
		t.Errorf("packets came after %v on a line of %v", took, delay)
	}
}

func TestALineHasARateAndAQueue(t *testing.T) {
	const packets, length = 50, 1000
	// 50 packets of 1000 bytes take 100 ms at this rate; 30 of them may wait.
	_, in, out := line(t, Link{Rate: packets * length * 8 * 10, Queue: 30 * length})
	start := time.Now()
	for range packets {
		if _, err := in.Write(make([]byte, length)); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.SetReadDeadline(start.Add(2 * time.Second)); err != nil {
		t.Fatal(err)
	}
	arrived := 0
	buf := make([]byte, mtu)
	for arrived < packets {
		if _, err := out.Read(buf); err != nil {
			break
		}
		arrived++
		if early := time.Duration(arrived) * 2 * time.Millisecond; time.Since(start) < early-time.Millisecond {
			t.Fatalf("packet %d came after %v", arrived, time.Since(start))
		}
	}
	if arrived < 30 {
		t.Errorf("%d packets arrived, at least those that fit the queue should", arrived)
	}
}

func TestACutLineLosesEverything(t *testing.T) {
	w, in, out := line(t, Link{Queue: 1 << 20})
	n := &Net{ways: []*way{w}}
	n.Cut()
	if _, err := in.WriteString("lost"); err != nil {
		t.Fatal(err)
	}
	if err := out.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, mtu)
	if n, err := out.Read(buf); err == nil {
		t.Fatalf("%q came over a line that is cut", buf[:n])
	}
	n.Heal()
	if err := out.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := in.WriteString("there"); err != nil {
		t.Fatal(err)
	}
	if n, err := out.Read(buf); err != nil || string(buf[:n]) != "there" {
		t.Fatalf("%q, %v", buf[:n], err)
	}
}
