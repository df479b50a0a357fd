//go:build linux

package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const (
	// bystanderSize is how much a bystander copies at a time.
	bystanderSize = 16 << 20

	// stopSize at stopRate takes four seconds: the first makes something durable,
	// and a daemon that is to end lets a busy client go on for two.
	stopSize = 200 << 20
	stopRate = "50MiB"
)

// A bystander copies up and down, over and over, while others misbehave.
type bystander struct {
	cancel context.CancelFunc
	rounds chan int   // its capacity is one: the number of the last good round
	done   chan error // gets the first thing that went wrong, or nil
}

// startBystander starts one; its copies must succeed until end is called.
func startBystander(t *testing.T, d *daemon) *bystander {
	t.Helper()
	c := newClient(t, d.Login)
	dir := t.TempDir()
	src := filepath.Join(dir, "bystander")
	writeRandom(t, src, bystanderSize)
	want, err := os.ReadFile(src)
	check(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	b := &bystander{cancel: cancel, rounds: make(chan int, 1), done: make(chan error, 1)}
	t.Cleanup(cancel)
	go func() {
		for round := 0; ctx.Err() == nil; round++ {
			// The last round is not cut off: it has to succeed like the others.
			if err := bystand(context.WithoutCancel(ctx), c, d, src, filepath.Join(dir, "back"), round, want); err != nil {
				b.done <- fmt.Errorf("round %d: %w", round, err)
				return
			}
			select {
			case <-b.rounds:
			default:
			}
			b.rounds <- round
		}
		b.done <- nil
	}()
	return b
}

// bystand makes one round.
func bystand(ctx context.Context, c client, d *daemon, src, back string, round int, want []byte) error {
	name := "bystander" + strconv.Itoa(round)
	for _, args := range [][]string{
		{"-q", "--retries", "0", "-T", src, c.remote("/" + name)},
		{"-q", "--retries", "0", "-T", c.remote("/" + name), back},
	} {
		if out, err := c.command(ctx, "copy", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("copy %q: %w\n%s", args, err, out)
		}
	}
	for _, path := range []string{filepath.Join(d.Root, name), back} {
		got, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%s differs", path)
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// oneMore returns when a round that began after the call has ended well.
func (b *bystander) oneMore(t *testing.T) {
	t.Helper()
	for range 2 { // the first may have begun before
		select {
		case <-b.rounds:
		case err := <-b.done:
			if err == nil {
				err = errors.New("it was ended")
			}
			t.Fatalf("bystander: %v", err)
		}
	}
}

// end fails the test if a round went wrong.
func (b *bystander) end(t *testing.T) {
	t.Helper()
	b.cancel()
	for {
		select {
		case <-b.rounds:
		case err := <-b.done:
			if err != nil {
				t.Errorf("bystander: %v", err)
			}
			return
		}
	}
}

// descriptors is how many files and sockets the daemon has open.
func (d *daemon) descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid))
	check(t, err)
	return len(list)
}

// resident is the daemon's memory in MiB, at its highest.
func (d *daemon) resident(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	check(t, err)
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmHWM:" {
			kib, err := strconv.Atoi(fields[1])
			check(t, err)
			return kib >> 10
		}
	}
	t.Fatal("no VmHWM in /proc/PID/status")
	return 0
}

// settled returns when the daemon has no more descriptors open than before.
func (d *daemon) settled(t *testing.T, before int) {
	t.Helper()
	waitFor(t, fmt.Sprintf("the daemon to have %d descriptors again", before), func() bool { return d.descriptors(t) <= before })
}

// maxResident bounds a daemon's memory, in MiB, with so many channels that read
// what their clients never take: 16 READs of two pages of 256 KiB each, as much
// again that is garbage, and what the daemon is itself.
func maxResident(channels int) int {
	most := 150 + channels*2*8
	if raceEnabled {
		most *= 4
	}
	return most
}
