// Package wan is a long line in a box: two network namespaces of this machine,
// joined by a link with delay, rate, queue and loss. It needs root, a Linux
// with /dev/net/tun, and ip(8); nothing of the kernel's traffic control.
package wan

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A Link says what a line is like, the same in both directions.
type Link struct {
	Delay time.Duration // one way
	Rate  int64         // bits a second; 0: no limit
	Queue int64         // bytes that wait for the line at most; 0: the product of rate and round trip
	Loss  float64       // the part of packets that are dropped, at random
}

// An End is one of the two machines.
type End struct {
	Address   string // IPv4
	namespace string
	tun       *os.File
}

// A Net is a running line. Close ends it.
type Net struct {
	Near, Far End

	running sync.WaitGroup
	ways    []*way
}

const mtu = 1500

// Start makes the namespaces and carries packets between them until Close.
func Start(ctx context.Context, l Link) (*Net, error) {
	if l.Queue == 0 {
		l.Queue = max(int64(float64(l.Rate)/8*(2*l.Delay).Seconds()), 256<<10)
	}
	id := fmt.Sprintf("wan%d-%d", os.Getpid(), rand.Uint32()) //nolint:gosec // a name, not a secret
	n := &Net{
		Near: End{Address: "10.99.0.1", namespace: id + "-near"},
		Far:  End{Address: "10.99.0.2", namespace: id + "-far"},
	}
	err := errors.Join(n.Near.open(ctx), n.Far.open(ctx))
	if err != nil {
		return nil, errors.Join(err, n.Close()) //nolint:contextcheck // it cleans up whatever became of ctx
	}
	for _, ends := range [][2]*os.File{{n.Near.tun, n.Far.tun}, {n.Far.tun, n.Near.tun}} {
		w := &way{link: l, from: ends[0], to: ends[1], queue: make(chan packet, 1<<16)}
		n.ways = append(n.ways, w)
		n.running.Go(w.receive)
		n.running.Go(w.deliver)
	}
	return n, nil
}

// Command returns a command that runs at e.
func (e End) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	argv := append(append(e.Wrap(), name), args...)
	return exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // what a benchmark names
}

// Wrap is the command that runs its arguments at e.
func (e End) Wrap() []string { return []string{"ip", "netns", "exec", e.namespace} }

// Cut stops every packet until Heal; those under way are lost.
func (n *Net) Cut() { n.each(func(w *way) { w.cut = true }) }

// Heal ends a Cut.
func (n *Net) Heal() { n.each(func(w *way) { w.cut = false }) }

func (n *Net) each(change func(*way)) {
	for _, w := range n.ways {
		w.mu.Lock()
		change(w)
		w.mu.Unlock()
	}
}

// Close removes the namespaces; what still runs in them loses its network.
func (n *Net) Close() error {
	err := errors.Join(n.Near.close(), n.Far.close())
	n.running.Wait()
	return err
}

func (e *End) open(ctx context.Context) error {
	if err := ip(ctx, "netns", "add", e.namespace); err != nil {
		return err
	}
	var err error
	if e.tun, err = openTun("/run/netns/" + e.namespace); err != nil {
		return fmt.Errorf("tun: %w", err)
	}
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"addr", "add", e.Address + "/24", "dev", "tun0"},
		{"link", "set", "tun0", "mtu", fmt.Sprint(mtu), "txqueuelen", "10000", "up"},
	} {
		if err := ip(ctx, append([]string{"-n", e.namespace}, args...)...); err != nil {
			return err
		}
	}
	return nil
}

func (e *End) close() error {
	var err error
	if e.tun != nil {
		err = e.tun.Close()
	}
	return errors.Join(err, ip(context.Background(), "netns", "del", e.namespace))
}

func ip(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput() //nolint:gosec // words of this file
	if err != nil {
		return fmt.Errorf("ip %v: %w: %s", args, err, out)
	}
	return nil
}

// openTun makes the device tun0 in a namespace.
func openTun(namespace string) (*os.File, error) {
	type result struct {
		f   *os.File
		err error
	}
	done := make(chan result)
	go func() {
		// The thread ends with this goroutine: it is of no use in another namespace.
		runtime.LockOSThread()
		f, err := openTunHere(namespace)
		done <- result{f, err}
	}()
	r := <-done
	return r.f, r.err
}

func openTunHere(namespace string) (*os.File, error) {
	ns, err := unix.Open(namespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(ns) }()
	if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	request, err := unix.NewIfreq("tun0")
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "tun0"), nil
}
