//go:build unix

package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// buildDaemon builds transferd from this source tree and returns its name.
func buildDaemon(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "transferd")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", name, "transferd/cmd/transferd")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return name
}

// A daemon is a transferd on a free loopback port.
type daemon struct {
	cmd  *exec.Cmd
	addr string
}

// startDaemon starts program, serving dir/srv to the key dir/key, and writes
// the configuration of a client that calls it srv. It listens on addr.
func startDaemon(program, dir, addr string, log *os.File) (*daemon, error) {
	cmd := exec.Command(program, "serve", "--ssh-listen", addr, "--root", filepath.Join(dir, "srv"),
		"--authorized-keys", filepath.Join(dir, "key.pub"), "--state-dir", filepath.Join(dir, "state"))
	cmd.Stderr = log
	cmd.Env = append(os.Environ(), "TRANSFERD_LOG_LEVEL=warn")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		addr, ok := strings.CutPrefix(lines.Text(), "transferd: ssh listening on ")
		if !ok {
			continue
		}
		return &daemon{cmd, addr}, writeClientConfig(dir, addr)
	}
	return nil, fmt.Errorf("transferd ended: %w", cmd.Wait())
}

func writeClientConfig(dir, addr string) error {
	host, port, _ := strings.Cut(addr, ":")
	config := fmt.Sprintf(`host_key_check: accept-new
known_hosts: %q
ssh_config: none
hosts:
  - name: srv
    address: %s
    port: %s
    identities: [%q]
`, filepath.Join(dir, "known_hosts"), host, port, filepath.Join(dir, "key"))
	name := filepath.Join(dir, "home", ".config", "transfer", "config.yaml")
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(config), 0o600)
}

// makePlace makes what startDaemon needs in dir.
func makePlace(dir string) error {
	for _, name := range []string{"srv", "home"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			return err
		}
	}
	cmd := exec.Command("transfer", "keygen", "-q", "-N", "", "-f", filepath.Join(dir, "key"))
	cmd.Env = append(os.Environ(), "HOME="+dir, "GORACE="+quickExit)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return nil
}

// end stops the daemon and waits for it.
func (d *daemon) end(signal os.Signal) {
	_ = d.cmd.Process.Signal(signal) // it may have ended
	_ = d.cmd.Wait()                 // its exit status is not what is tested
}

// logFile opens a file that a daemon writes its log to, and shows it if the
// test fails.
func logFile(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if text, err := os.ReadFile(f.Name()); err == nil && t.Failed() {
			t.Logf("transferd:\n%s", text)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// TestRemoteScripts runs the command lines in testdata/remote, each against a
// daemon of its own, which they call srv.
func TestRemoteScripts(t *testing.T) {
	program := buildDaemon(t)
	log := logFile(t)
	params := scriptParams("testdata/remote")
	setup := params.Setup
	params.Setup = func(env *testscript.Env) error {
		if err := setup(env); err != nil {
			return err
		}
		if err := makePlace(env.WorkDir); err != nil {
			return err
		}
		d, err := startDaemon(program, env.WorkDir, "127.0.0.1:0", log)
		if err != nil {
			return err
		}
		env.Defer(func() { d.end(syscall.SIGTERM) })
		env.Setenv("PORT", d.addr[strings.LastIndexByte(d.addr, ':')+1:])
		return nil
	}
	testscript.Run(t, params)
}

// TestKilledRemoteCopyIsContinued kills client or daemon in the middle of an
// upload or download; the same command then sends only the rest.
func TestKilledRemoteCopyIsContinued(t *testing.T) {
	t.Parallel()
	program := buildDaemon(t)
	const size = 24 << 20
	tests := []struct {
		name       string
		args       []string
		from, to   string
		killDaemon bool
	}{
		{"upload, client", []string{"big", "srv:copied"}, "home/big", "srv/copied", false},
		{"download, client", []string{"srv:big", "copied"}, "srv/big", "home/copied", false},
		{"upload, daemon", []string{"big", "srv:copied"}, "home/big", "srv/copied", true},
		{"download, daemon", []string{"srv:big", "copied"}, "srv/big", "home/copied", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir, log := t.TempDir(), logFile(t)
			if err := makePlace(dir); err != nil {
				t.Fatal(err)
			}
			makeFile(t, filepath.Join(dir, tt.from), size)
			d, err := startDaemon(program, dir, "127.0.0.1:0", log)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { d.end(syscall.SIGTERM) }()
			home := filepath.Join(dir, "home")
			slow := append([]string{"copy", "--json", "--retries", "0", "--compress", "off", "--bwlimit", "8MiB"}, tt.args...)
			c := startTransfer(t, home, slow...)
			c.until(t, func(e anyEvent) bool { return e.Event == "progress" && e.Bytes >= 12<<20 })
			if tt.killDaemon {
				d.end(syscall.SIGKILL)
				if got := c.code(t); got != exitInterrupted {
					t.Errorf("with its daemon killed transfer exits %d, want %d", got, exitInterrupted)
				}
				// The port belongs to the key of what is resumed, so it is the same.
				if d, err = startDaemon(program, dir, d.addr, log); err != nil {
					t.Fatal(err)
				}
			} else {
				if err := c.cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				c.code(t)
			}
			if _, err := os.Lstat(filepath.Join(dir, tt.to)); err == nil {
				t.Error("the final name exists though the copy was not finished")
			}
			c = startTransfer(t, home, append([]string{"copy", "--json"}, tt.args...)...)
			done := c.until(t, func(e anyEvent) bool { return e.Event == "done" })
			if got := c.code(t); got != exitDone {
				t.Errorf("the second run exits %d", got)
			}
			t.Logf("resumed %d, sent %d", done.BytesResumed, done.BytesSent)
			if done.BytesResumed < 1<<20 || done.BytesResumed+done.BytesSent != size {
				t.Errorf("resumed %d and sent %d of %d bytes", done.BytesResumed, done.BytesSent, size)
			}
			sameFiles(t, filepath.Join(dir, tt.from), filepath.Join(dir, tt.to))
			noPartials(t, dir)
		})
	}
}

func TestLostConnectionIsMadeAnewInOneRun(t *testing.T) {
	program := buildDaemon(t)
	dir, log := t.TempDir(), logFile(t)
	if err := makePlace(dir); err != nil {
		t.Fatal(err)
	}
	makeFile(t, filepath.Join(dir, "home", "big"), 24<<20)
	d, err := startDaemon(program, dir, "127.0.0.1:0", log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { d.end(syscall.SIGTERM) }()
	c := startTransfer(t, filepath.Join(dir, "home"), "copy", "--json", "--compress", "off", "--bwlimit", "8MiB", "big", "srv:copied")
	c.until(t, func(e anyEvent) bool { return e.Event == "progress" && e.Bytes >= 12<<20 })
	d.end(syscall.SIGKILL)
	if d, err = startDaemon(program, dir, d.addr, log); err != nil {
		t.Fatal(err)
	}
	done := c.until(t, func(e anyEvent) bool { return e.Event == "done" })
	if got := c.code(t); got != exitDone {
		t.Errorf("exit code %d, want %d", got, exitDone)
	}
	if done.Files != 1 || done.BytesSent < 24<<20 {
		t.Errorf("done = %+v, want one file, and everything sent at least once", done)
	}
	sameFiles(t, filepath.Join(dir, "home", "big"), filepath.Join(dir, "srv", "copied"))
	noPartials(t, dir)
}
