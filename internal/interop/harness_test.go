//go:build unix

package interop

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"transferd/internal/testpeer"
)

// bin and fastBin are where TestMain built both programs: as the tests are
// built, and without the race detector, for those tests that move gigabytes.
var bin, fastBin string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "interop")
	if err == nil {
		bin, fastBin = filepath.Join(dir, "bin"), filepath.Join(dir, "bin")
		err = build(bin, raceEnabled)
		if raceEnabled && err == nil {
			fastBin = filepath.Join(dir, "fast")
			err = build(fastBin, false)
		}
	}
	code := 1
	if err == nil {
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, err)
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// build builds the programs into dir.
func build(dir string, race bool) error {
	args := []string{"build", "-o", dir + "/"}
	if race {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "transferd/cmd/transfer", "transferd/cmd/transferd")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return nil
}

// A daemon is a running transferd.
type daemon struct {
	testpeer.Login
	Root    string
	Dir     string // keys, state
	TCPPort int    // of our own protocol

	bin  string // where its program is
	args []string
	cmd  *exec.Cmd
	done chan struct{}
	mu   sync.Mutex
	log  bytes.Buffer
}

// startDaemon starts a transferd that serves an empty directory to a new key.
func startDaemon(t *testing.T) *daemon {
	t.Helper()
	return startDaemonOf(t, bin)
}

// startFastDaemon is startDaemon for a test that moves much.
func startFastDaemon(t *testing.T) *daemon {
	t.Helper()
	return startDaemonOf(t, fastBin)
}

func startDaemonOf(t *testing.T, bin string) *daemon {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{Dir: t.TempDir(), Root: t.TempDir(), bin: bin}
	d.Login = testpeer.Login{
		Host: "127.0.0.1", User: me.Username,
		Identity:   testpeer.Key(t, d.Dir, "id_ed25519", "ed25519"),
		KnownHosts: filepath.Join(d.Dir, "known_hosts"),
	}
	d.args = []string{
		"serve", "--root", d.Root, "--authorized-keys", d.Identity + ".pub",
		"--state-dir", filepath.Join(d.Dir, "state"),
	}
	d.start(t)
	t.Cleanup(d.Kill)
	return d
}

// Restart starts the daemon again on its old ports after Kill.
func (d *daemon) Restart(t *testing.T) {
	t.Helper()
	d.start(t)
}

// start returns when the daemon listens, at first on free ports.
func (d *daemon) start(t *testing.T) {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), filepath.Join(d.bin, "transferd"), append(d.args,
		"--ssh-listen", net.JoinHostPort(d.Host, strconv.Itoa(d.Port)),
		"--tcp-listen", net.JoinHostPort(d.Host, strconv.Itoa(d.TCPPort)))...)
	cmd.Env = append(os.Environ(), "HOME="+d.Dir, "XDG_STATE_HOME=", "XDG_CONFIG_HOME=")
	cmd.Stderr = lockedWriter{d}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d.cmd, d.done = cmd, make(chan struct{})
	ready := make(chan string, 2)
	go func() {
		defer close(d.done)
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			if _, address, ok := strings.Cut(lines.Text(), " listening on "); ok {
				select {
				case ready <- address:
				default:
				}
			}
		}
		_ = cmd.Wait()
	}()
	for _, port := range []*int{&d.Port, &d.TCPPort} { // SSH comes first
		select {
		case address := <-ready:
			_, number, err := net.SplitHostPort(address)
			if err != nil {
				t.Fatal(err)
			}
			if *port, err = strconv.Atoi(number); err != nil {
				t.Fatal(err)
			}
		case <-d.done:
			t.Fatalf("transferd exited: %v\n%s", cmd.ProcessState, d.Log())
		case <-time.After(time.Minute):
			t.Fatalf("transferd is not ready\n%s", d.Log())
		}
	}
	host, err := os.ReadFile(d.hostKey(t))
	if err != nil {
		t.Fatal(err)
	}
	d.WriteKnownHosts(t, string(host), d.TCPPort)
}

// TCP is the login at the port of our own protocol.
func (d *daemon) TCP() testpeer.Login {
	l := d.Login
	l.Port = d.TCPPort
	return l
}

// hostKey finds the public host key in the state directory.
func (d *daemon) hostKey(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(d.Dir, "state", "*.pub"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no public host key in the state directory: %v", err)
	}
	return found[0]
}

// Kill ends the daemon by SIGKILL.
func (d *daemon) Kill() {
	_ = d.cmd.Process.Kill()
	<-d.done
}

// Log returns what the daemon has logged.
func (d *daemon) Log() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.String()
}

type lockedWriter struct{ d *daemon }

func (w lockedWriter) Write(p []byte) (int, error) {
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	return w.d.log.Write(p)
}

// A client runs our transfer with a home of its own, against one login.
type client struct {
	bin   string // where its program is
	home  string
	login testpeer.Login
	flags []string // of every command
}

func newClient(t *testing.T, l testpeer.Login) client {
	t.Helper()
	return client{bin: bin, home: t.TempDir(), login: l}
}

// newFastClient is newClient for a test that moves much.
func newFastClient(t *testing.T, l testpeer.Login) client {
	t.Helper()
	return client{bin: fastBin, home: t.TempDir(), login: l}
}

// command returns transfer with args; networked commands get the login's flags.
func (c client) command(ctx context.Context, verb string, args ...string) *exec.Cmd {
	flags := []string{
		verb, "-P", strconv.Itoa(c.login.Port), "-i", c.login.Identity,
		"--known-hosts", c.login.KnownHosts, "-o", "IdentitiesOnly=yes",
	}
	flags = append(flags, c.flags...)
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, "transfer"), append(flags, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+c.home, "XDG_STATE_HOME=", "XDG_CONFIG_HOME=", "SSH_AUTH_SOCK=")
	return cmd
}

// remote is a target on the login's server.
func (c client) remote(path string) string { return c.login.Target() + ":" + path }

// A result is the "done" event of a copy.
type result struct {
	Files        int64 `json:"files"`
	BytesSent    int64 `json:"bytes_sent"`
	BytesResumed int64 `json:"bytes_resumed"`
	Skipped      int64 `json:"skipped"`
	Failed       int64 `json:"failed"`
}

// copy runs a copy that must succeed.
func (c client) copy(t *testing.T, args ...string) result {
	t.Helper()
	cmd := c.command(t.Context(), "copy", append([]string{"--json"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, err, out, stderr.String())
	}
	return parseDone(t, out)
}

func parseDone(t *testing.T, events []byte) result {
	t.Helper()
	for line := range bytes.Lines(events) {
		var e struct {
			Event string `json:"event"`
			result
		}
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("event %q: %v", line, err)
		}
		if e.Event == "done" {
			return e.result
		}
	}
	t.Fatalf("no done event in:\n%s", events)
	return result{}
}

// run runs a command that must succeed and returns its output.
func run(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return string(out)
}

// writeRandom makes a file of size random bytes.
func writeRandom(t *testing.T, path string, size int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	var seed [32]byte
	copy(seed[:], path)
	if _, err := io.CopyN(f, rand.NewChaCha8(seed), size); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func digest(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// sameFile fails the test unless both files hold the same bytes.
func sameFile(t *testing.T, got, want string) {
	t.Helper()
	if digest(t, got) != digest(t, want) {
		t.Errorf("%s differs from %s", got, want)
	}
}

// waitFor polls until ok, for at most a minute.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited a minute for %s", what)
		}
	}
}
