//go:build linux

package interop

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// soak is what scripts/soak.sh sets: take all the time there is.
func soak() bool { return os.Getenv("TRANSFER_SOAK") == "1" }

// lostAKill bounds what one kill may cost: what was received and not yet durable.
const lostAKill = 96 << 20

// TestKilledNativeUploads kills the client, the daemon, or both at random
// moments of an upload over four streams, and looks at what is sent again.
func TestKilledNativeUploads(t *testing.T) {
	rounds, size := 6, int64(killSize)
	if soak() {
		rounds, size = 40, 1<<30
	}
	d := startFastDaemon(t)
	src := filepath.Join(t.TempDir(), "stack")
	writeRandom(t, src, size)
	c := newFastClient(t, d.TCP())
	c.flags = []string{"--transport=tcp", "--streams=4"}
	got, to := filepath.Join(d.Root, "copy"), c.remote("/copy")
	start := time.Now()
	c.copy(t, src, to)
	whole := time.Since(start)
	for round := range rounds {
		_ = os.Remove(got)
		victim := []string{"client", "daemon", "both"}[round%3]
		before := d.received(t)
		cmd := c.command(t.Context(), "copy", "-q", "--retries", "0", src, to)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		check(t, cmd.Start())
		timer := time.NewTimer(time.Duration(rand.Int64N(int64(whole))))
		<-timer.C
		if victim != "daemon" {
			_ = cmd.Process.Kill()
		}
		received := d.received(t) - before
		if victim != "client" {
			d.Kill()
		}
		_ = cmd.Wait()
		if victim != "client" {
			d.Restart(t)
		}
		if _, err := os.Lstat(got); err == nil {
			sameFile(t, got, src) // it was faster than the kill
		}
		r := c.copy(t, src, to)
		sameFile(t, got, src)
		again := received - r.BytesResumed
		if r.Skipped == 0 && again > lostAKill {
			t.Errorf("round %d: %d MiB had arrived and only %d MiB were kept", round, received>>20, r.BytesResumed>>20)
		}
		left, err := filepath.Glob(filepath.Join(d.Root, ".transfer-*"))
		if err != nil || len(left) > 0 {
			t.Errorf("round %d: left over %q, %v", round, left, err)
		}
		t.Logf("round %2d: killed %s when %4d MiB had arrived; then %4d MiB not resent, %3d MiB again; skipped %d",
			round, victim, received>>20, r.BytesResumed>>20, max(again, 0)>>20, r.Skipped)
	}
}

// received is what the daemon has read so far, which is what came to it over
// the network as long as it reads no files.
func (d *daemon) received(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", d.cmd.Process.Pid))
	check(t, err)
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "rchar: "); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			check(t, err)
			return n
		}
	}
	t.Fatal("no rchar")
	return 0
}

// TestACopySurvivesAPulledCable: for half a minute nothing gets through, and
// nothing says so. Outside of soaking the connections are reset instead.
func TestACopySurvivesAPulledCable(t *testing.T) {
	d := startFastDaemon(t)
	cable := newCable(t, d.TCPPort)
	l := d.TCP()
	l.Port = cable.port
	l.KnownHosts = d.KnownHosts + ".cable"
	host, err := os.ReadFile(d.hostKey(t))
	check(t, err)
	l.WriteKnownHosts(t, string(host), d.TCPPort)
	src := filepath.Join(t.TempDir(), "stack")
	writeRandom(t, src, killSize)
	c := newFastClient(t, l)
	c.flags = []string{"--transport=tcp"}
	cmd := c.command(t.Context(), "copy", "--json", "--streams=1", "--bwlimit=60MiB", src, c.remote("/copy"))
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	check(t, cmd.Start())
	waitFor(t, "the copy to be under way", func() bool { return cable.carried() > killSize/4 })
	if soak() {
		cable.pull(false)
		timer := time.NewTimer(30 * time.Second)
		<-timer.C
	} else {
		cable.pull(true)
	}
	cable.plug()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("copy: %v\n%s\n%s", err, &out, &stderr)
	}
	sameFile(t, filepath.Join(d.Root, "copy"), src)
	t.Logf("%+v", parseDone(t, out.Bytes()))
}

// A cable carries TCP connections to a port of this machine until it is pulled.
type cable struct {
	port int

	mu     sync.Mutex
	change *sync.Cond
	pulled bool
	conns  []net.Conn
	bytes  int64
}

func newCable(t *testing.T, to int) *cable {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	check(t, err)
	c := &cable{port: l.Addr().(*net.TCPAddr).Port}
	c.change = sync.NewCond(&c.mu)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp4", "127.0.0.1:"+strconv.Itoa(to))
			if err != nil {
				_ = near.Close()
				continue
			}
			c.mu.Lock()
			c.conns = append(c.conns, near, far)
			c.mu.Unlock()
			running.Go(func() { c.carry(near, far) })
			running.Go(func() { c.carry(far, near) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		c.plug()
		c.cut()
		running.Wait()
	})
	return c
}

// carry moves bytes one way; while the cable is pulled they wait, and the ends
// notice nothing.
func (c *cable) carry(from, to net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		c.mu.Lock()
		for c.pulled {
			c.change.Wait()
		}
		c.bytes += int64(n)
		c.mu.Unlock()
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	_ = from.Close()
	_ = to.Close()
}

func (c *cable) carried() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}

// pull stops everything; with noticed the connections are reset too.
func (c *cable) pull(noticed bool) {
	c.mu.Lock()
	c.pulled = true
	c.mu.Unlock()
	if noticed {
		c.cut()
	}
}

func (c *cable) plug() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pulled = false
	c.change.Broadcast()
}

func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}
