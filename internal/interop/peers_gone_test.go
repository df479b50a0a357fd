//go:build linux

package interop

import (
	"encoding/binary"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"transferd/internal/testpeer"
)

// dialTCP connects to the daemon's port from an address of the loopback
// network that the good clients do not have; the test's end closes the
// connection.
func dialTCP(t *testing.T, l testpeer.Login) net.Conn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	conn, err := dialer.DialContext(t.Context(), "tcp", l.Addr())
	check(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// garbage is what ports on the Internet get to hear.
func garbage() [][]byte {
	random := make([]byte, 70_000)
	rng := rand.NewChaCha8([32]byte{7})
	_, _ = rng.Read(random)
	banner := "SSH-2.0-OpenSSH_9.2\r\n"
	huge := binary.BigEndian.AppendUint32([]byte(banner), 0xffffffff)
	return [][]byte{
		{},
		{0},
		random, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
		[]byte(strings.Repeat("A", 100_000)), []byte(strings.Repeat("no banner yet\r\n", 5000)), []byte("SSH-1.5-old\n"),
		[]byte(banner), append([]byte(banner), random...), append(huge, random...),
		append([]byte(banner), 0, 0, 0, 0, 0, 0, 0, 0), append([]byte(banner), 0, 0, 0, 12, 255, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
		[]byte("SSH-2.0-" + strings.Repeat("x", 300) + "\r\n"), []byte("\r\n\r\n\x00\x00SSH-2.0-x\r\n"),
	}
}

func TestGarbageHarmsNobody(t *testing.T) {
	d := startDaemon(t)
	run(t, newClient(t, d.Login).command(t.Context(), "ls", d.Target()+":/")) // what is opened once is open
	before := d.descriptors(t)
	b := startBystander(t, d)
	b.oneMore(t)
	for range 20 {
		for _, text := range garbage() {
			conn := dialTCP(t, d.Login)
			_, _ = conn.Write(text) // the daemon may have hung up already
			check(t, conn.Close())
		}
	}
	b.oneMore(t)
	b.end(t)
	d.settled(t, before)
	if text := d.Log(); strings.Contains(text, "panic") {
		t.Errorf("log:\n%s", text)
	}
}

func TestStalledHandshakesKeepNobodyOut(t *testing.T) {
	// bystanders is what the good client may hold meanwhile: connections, files.
	const limit, many, bystanders = 40, 300, 20
	d := startConfigured(t, []daemonUser{{name: "alice"}}, "limits: {handshakes: 40, handshake_timeout: 3s}\n")
	run(t, newClient(t, d.Login).command(t.Context(), "ls", d.Target()+":/"))
	before := d.descriptors(t)
	b := startBystander(t, d)
	b.oneMore(t)
	var conns []net.Conn
	for i := range many {
		conn := dialTCP(t, d.Login)
		if i%2 == 1 {
			_, _ = conn.Write([]byte("SSH-2.0-stalls\r\n"))
		}
		conns = append(conns, conn)
	}
	start := time.Now()
	waitFor(t, "no more handshakes than the limit", func() bool { return d.descriptors(t) <= before+limit+bystanders })
	t.Logf("%d of %d stalled handshakes were put out after %v", many-limit, many, time.Since(start))
	b.oneMore(t)
	for _, conn := range conns {
		check(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
		if _, err := io.Copy(io.Discard, conn); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Fatalf("a stalled handshake was not ended: %v", err)
		}
	}
	t.Logf("all stalled handshakes were ended after %v", time.Since(start))
	b.end(t)
	d.settled(t, before)
}

// journalled reports whether a journal below dir has records.
func journalled(dir string) bool {
	found := false
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error { // what goes away meanwhile does not count
		if err == nil && strings.Contains(filepath.Base(path), ".journal") {
			info, err := e.Info()
			found = found || err == nil && info.Size() > 1000 // a header has less
		}
		return nil
	})
	return found
}

func TestStoppedClientHarmsNobody(t *testing.T) {
	d := startDaemon(t)
	c := newClient(t, d.Login)
	run(t, c.command(t.Context(), "ls", d.Target()+":/"))
	before := d.descriptors(t)
	dir := t.TempDir()
	big := filepath.Join(dir, "big")
	writeRandom(t, big, stopSize)
	writeRandom(t, filepath.Join(d.Root, "big"), stopSize)
	b := startBystander(t, d)
	up, down := filepath.Join(d.Root, "up"), filepath.Join(dir, "down")
	for _, args := range [][]string{{big, c.remote("/up")}, {c.remote("/big"), down}} {
		c := newClient(t, d.Login)
		cmd := c.command(t.Context(), "copy", append([]string{"-q", "--bwlimit", stopRate}, args...)...)
		check(t, cmd.Start())
		waitFor(t, "part of the copy to be durable", func() bool { return journalled(d.Root) || journalled(dir) })
		check(t, cmd.Process.Signal(syscall.SIGSTOP))
		b.oneMore(t)
		check(t, cmd.Process.Kill())
		_ = cmd.Wait() // it was killed
		b.oneMore(t)
		if r := c.copy(t, args...); r.BytesResumed == 0 {
			t.Errorf("nothing of %q was resumed: %+v", args, r)
		}
	}
	b.end(t)
	d.settled(t, before)
	sameFile(t, up, big)
	sameFile(t, down, filepath.Join(d.Root, "big"))
}

func TestSessionsThatEndAnywhereHarmNobody(t *testing.T) {
	d := startDaemon(t)
	run(t, newClient(t, d.Login).command(t.Context(), "ls", d.Target()+":/"))
	before := d.descriptors(t)
	b := startBystander(t, d)
	whole := request(fxWrite, 9, "1", uint64(0), strings.Repeat("x", 30_000))
	for _, cut := range []int{1, 4, 5, 9, 13, 20, 5000, len(whole) - 1, len(whole)} {
		r := dialRaw(t, d.Login)
		h := r.open(t, "/half", fxfWrite|fxfCreate)
		if h == "" {
			t.Fatal("open refused")
		}
		_, err := r.in.Write(request(fxWrite, 9, h, uint64(0), strings.Repeat("x", 30_000))[:cut])
		check(t, err)
		check(t, r.conn.Close())
	}
	for _, packet := range []string{
		"\x00\x00\x00\x00", "\xff\xff\xff\xff\x06", "\x00\x04\x00\x01\x06", "\x00\x00\x00\x01\x03", "\x00\x00\x00\x05\x63\x00\x00\x00\x01",
		"\x00\x00\x00\x09\x05\x00\x00\x00\x01\xff\xff\xff\xff", "\x00\x00\x00\x05\x01\x00\x00\x00\x03",
	} {
		r := dialRaw(t, d.Login)
		_, err := r.in.Write([]byte(packet))
		check(t, err)
		_ = r.in.Close() // the daemon may have closed the channel already
		if _, err := io.Copy(io.Discard, r.out); err != nil {
			t.Errorf("after %q: %v", packet, err)
		}
		check(t, r.conn.Close())
	}
	b.oneMore(t)
	b.end(t)
	d.settled(t, before)
	if text := d.Log(); strings.Contains(text, "panic") {
		t.Errorf("log:\n%s", text)
	}
}

// A client that asks and asks and never reads must not fill the memory.
func TestClientThatNeverReadsIsBounded(t *testing.T) {
	d := startDaemon(t)
	writeRandom(t, filepath.Join(d.Root, "big"), 64<<20)
	run(t, newClient(t, d.Login).command(t.Context(), "ls", d.Target()+":/"))
	before := d.descriptors(t)
	b := startBystander(t, d)
	var greedy []*ssh.Client
	const connections, channels = 4, 8
	for range connections {
		conn := dialSSH(t, d.Login)
		greedy = append(greedy, conn)
		for range channels {
			r := rawOn(t, conn)
			h := r.open(t, "/big", fxfRead)
			go func() { // it ends with the connection, at the latest
				for i := range uint32(20_000) {
					if _, err := r.in.Write(request(fxRead, i, h, uint64(i%200)<<18, uint32(255<<10))); err != nil {
						return
					}
				}
			}()
		}
	}
	b.oneMore(t)
	b.oneMore(t)
	for _, conn := range greedy {
		check(t, conn.Close())
	}
	start := time.Now()
	b.end(t)
	d.settled(t, before)
	t.Logf("the sessions had ended after %v", time.Since(start))
	t.Logf("the daemon has used %d MiB at most", d.resident(t))
	if most, want := d.resident(t), maxResident(connections*channels); most > want {
		t.Errorf("the daemon has used %d MiB, want at most %d", most, want)
	}
}
