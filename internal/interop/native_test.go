//go:build unix

package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"transferd/internal/testpeer"
)

// A road is one way for our protocol to reach a server.
type road struct {
	name      string
	client    client
	dst       string // a directory of the server that clients see, with its "/"
	root      string // and where it lies
	transport string // as events name it
	server    server
}

// roads starts a daemon and a stock sshd, and returns every road to them.
func roads(t *testing.T) []road {
	t.Helper()
	d := startFastDaemon(t)
	tcp, auto, ssh := newFastClient(t, d.TCP()), newFastClient(t, d.Login), newFastClient(t, d.Login)
	tcp.flags, ssh.flags = []string{"--transport=tcp"}, []string{"--transport=ssh"}
	s := testpeer.StartSSHD(t, testpeer.SSHDOptions{})
	stdio := newFastClient(t, s.Login)
	stdio.flags = []string{"--transport=ssh"}
	stdio.remoteCommand(t, filepath.Join(fastBin, "transferd"))
	far := t.TempDir()
	return []road{
		{"tcp", tcp, "/", d.Root, "tcp", d},
		{"auto", auto, "/", d.Root, "tcp", d},
		{"ssh", ssh, "/", d.Root, "ssh", d},
		{"stdio", stdio, far + "/", far, "ssh", stockServer{s}},
	}
}

// remoteCommand makes command what c starts on its server.
func (c client) remoteCommand(t *testing.T, command string) {
	t.Helper()
	dir := filepath.Join(c.home, ".config", "transfer")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("hosts:\n  - {name: %q, remote_command: %q}\n", c.login.Host, command)
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestNativeRoundTrip(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	makeTree(t, src)
	want := describe(t, src)
	large := filepath.Join(src, "large")
	for _, r := range roads(t) {
		t.Run(r.name, func(t *testing.T) {
			c := r.client
			up := r.dst + r.name
			cmd := c.command(t.Context(), "copy", "--json", "-r", src, c.remote(up))
			for _, f := range fileEvents(t, cmd) {
				if f.Path == filepath.Join(src, "sub", "link") {
					continue // nothing to verify
				}
				// What went before the session had a stream over TCP says so.
				early := r.name == "auto" && f.Transport == "ssh"
				if f.Transport != r.transport && !early || f.Verified != "digest" {
					t.Errorf("%s came by %s, verified %q; want %s, digest", f.Path, f.Transport, f.Verified, r.transport)
				}
				if f.Path == large && f.Transport != r.transport {
					t.Errorf("%s came by %s, want %s", f.Path, f.Transport, r.transport)
				}
			}
			back := filepath.Join(t.TempDir(), "back")
			c.copy(t, "-r", c.remote(up), back)
			if diff := cmp.Diff(want, describe(t, back)); diff != "" {
				t.Errorf("what came back differs (-want +got):\n%.4000s", diff)
			}
			if again := c.copy(t, "-r", "-T", src, c.remote(up)); again.Files != 0 || again.BytesSent != 0 {
				t.Errorf("second upload did something: %+v", again)
			}
			here := strings.Fields(run(t, c.command(t.Context(), "sum", large)))
			there := strings.Fields(run(t, c.command(t.Context(), "sum", c.remote(up+"/large"))))
			if len(here) == 0 || len(there) == 0 || here[0] != there[0] {
				t.Errorf("sum here %q, there %q", here, there)
			}
			if cat := run(t, c.command(t.Context(), "cat", c.remote(up+"/small 3"))); cat != "small file 3\n" {
				t.Errorf("cat says %q", cat)
			}
		})
	}
}

// makeTree makes a few of everything below dir.
func makeTree(t *testing.T, dir string) {
	t.Helper()
	check(t, os.MkdirAll(filepath.Join(dir, "sub", "empty"), 0o755))
	for i := range 300 {
		check(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("small %d", i)), fmt.Appendf(nil, "small file %d\n", i), 0o640))
	}
	writeRandom(t, filepath.Join(dir, "large"), 20<<20+12345)
	writeRandom(t, filepath.Join(dir, "sub", "one chunk"), 1<<20)
	check(t, os.WriteFile(filepath.Join(dir, "sub", "nothing"), nil, 0o600))
	check(t, os.Symlink("../large", filepath.Join(dir, "sub", "link")))
	sparse, err := os.Create(filepath.Join(dir, "sparse"))
	check(t, err)
	_, err = sparse.WriteAt([]byte("an island"), 40<<20)
	check(t, err)
	check(t, sparse.Truncate(64<<20))
	check(t, sparse.Close())
	old := time.Unix(1_600_000_000, 123_456_789)
	check(t, os.Chtimes(filepath.Join(dir, "small 7"), old, old))
}

// A fileEvent is the event of one finished file.
type fileEvent struct {
	Event     string `json:"event"`
	Path      string `json:"path"`
	Transport string `json:"transport"`
	Verified  string `json:"verified"`
	Bytes     int64  `json:"bytes"` // of a progress event
}

// fileEvents runs a copy that must succeed and returns what it says of files.
func fileEvents(t *testing.T, cmd *exec.Cmd) []fileEvent {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, err, out, stderr.String())
	}
	var files []fileEvent
	for line := range bytes.Lines(out) {
		var e fileEvent
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		if e.Event == "file" {
			files = append(files, e)
		}
	}
	if len(files) == 0 {
		t.Errorf("no file events in\n%s", out)
	}
	return files
}

func TestKilledNativeCopiesResume(t *testing.T) {
	src := filepath.Join(t.TempDir(), "stack")
	writeRandom(t, src, killSize)
	for _, r := range roads(t) {
		t.Run(r.name, func(t *testing.T) {
			c := r.client
			c.flags = append(slices.Clone(c.flags), "--streams=4")
			up := filepath.Join(r.root, r.name)
			killAndResume(t, nativeRounds, r.server, c, src, c.remote(r.dst+r.name), src, up)
			down := filepath.Join(t.TempDir(), "down")
			killAndResume(t, nativeRounds, r.server, c, c.remote(r.dst+r.name), down, src, down)
		})
	}
}

// nativeRounds is how often each road's copies are killed, in each direction.
const nativeRounds = 4

// TestAFlippedByteInThePartialIsMended: what lies on the disk between two runs
// is read again before it counts.
func TestAFlippedByteInThePartialIsMended(t *testing.T) {
	src := filepath.Join(t.TempDir(), "stack")
	writeRandom(t, src, killSize)
	for _, r := range roads(t)[:1] {
		c := r.client
		to := c.remote(r.dst + "flipped")
		cmd := c.command(t.Context(), "copy", "-q", "--retries", "0", "--bwlimit", "150MiB", src, to)
		check(t, cmd.Start())
		var part string
		waitFor(t, "something durable", func() bool {
			journals, err := filepath.Glob(filepath.Join(r.root, ".transfer-*.journal"))
			if err != nil || len(journals) == 0 {
				return false
			}
			part = strings.TrimSuffix(journals[0], ".journal") + ".part"
			info, err := os.Stat(journals[0])
			return err == nil && info.Size() > 2000
		})
		_ = cmd.Process.Kill()
		t.Logf("killed: %v", cmd.Wait())
		flip(t, part, 5<<20)
		got := c.copy(t, src, to)
		if got.BytesResumed == 0 {
			t.Errorf("nothing was resumed: %+v", got)
		}
		sameFile(t, filepath.Join(r.root, "flipped"), src)
	}
}

// flip changes one byte of a file.
func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	check(t, err)
	var b [1]byte
	_, err = f.ReadAt(b[:], at)
	check(t, err)
	b[0] ^= 0x10
	_, err = f.WriteAt(b[:], at)
	check(t, err)
	check(t, f.Close())
}

// TestTheSecondOfTwoCopiesTakesOver: two clients with one upload do not fight.
func TestTheSecondOfTwoCopiesTakesOver(t *testing.T) {
	src := filepath.Join(t.TempDir(), "stack")
	writeRandom(t, src, killSize)
	for _, r := range roads(t)[:3] {
		t.Run(r.name, func(t *testing.T) {
			c := r.client
			to := c.remote(r.dst + "taken")
			_ = os.Remove(filepath.Join(r.root, "taken"))
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			first := c.command(ctx, "copy", "-q", "--bwlimit", "30MiB", src, to)
			var stderr bytes.Buffer
			first.Stderr = &stderr
			check(t, first.Start())
			waitFor(t, "the first copy to begin", func() bool {
				parts, err := filepath.Glob(filepath.Join(r.root, ".transfer-*.part"))
				return err == nil && len(parts) > 0
			})
			c.copy(t, src, to)
			sameFile(t, filepath.Join(r.root, "taken"), src)
			_ = first.Wait()
			if code := first.ProcessState.ExitCode(); code != 6 {
				t.Errorf("the copy that was taken over exited with %d, want 6\n%s", code, &stderr)
			}
		})
	}
}

func TestTransportsThatAServerLacks(t *testing.T) {
	s := testpeer.StartSSHD(t, testpeer.SSHDOptions{})
	d := startDaemon(t)
	src := filepath.Join(t.TempDir(), "src")
	writeRandom(t, src, 1000)
	for _, test := range []struct {
		name  string
		login testpeer.Login
		flags []string
		code  int
		says  string
	}{
		{"ssh without our daemon", s.Login, []string{"--transport=ssh"}, 3, "transferd"},
		{"tcp to an SSH port", d.Login, []string{"--transport=tcp"}, 3, "SSH"},
		{"ssh to the TCP port", d.TCP(), []string{"--transport=sftp"}, 3, ""},
		{"sftp to our daemon", d.Login, []string{"--transport=sftp"}, 0, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newClient(t, test.login)
			c.flags = test.flags
			cmd := c.command(t.Context(), "copy", src, c.remote("tmp-copy"))
			out, _ := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != test.code || !strings.Contains(string(out), test.says) {
				t.Errorf("exit %d, want %d; says %q, want %q", code, test.code, out, test.says)
			}
		})
	}
}
