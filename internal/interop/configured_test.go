//go:build unix

package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"transferd/internal/testpeer"
)

// needRoot leaves a test out that only root can run, and fails where nothing
// may be left out.
func needRoot(t *testing.T, why string) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv(testpeer.RequireEnv) == "1" {
		t.Fatalf("only root can %s, and %s=1 wants every test", why, testpeer.RequireEnv)
	}
	t.Skipf("only root can %s", why)
}

// A daemonUser is one entry of users: in the configuration of a daemon.
type daemonUser struct {
	name        string
	permissions string // "" for all
}

// startConfigured starts a transferd that serves one root to users by way of a
// configuration file; more are further lines of it.
func startConfigured(t *testing.T, users []daemonUser, more string) *daemon {
	t.Helper()
	d := newDaemon(t)
	d.configure(t, users, more)
	d.args = []string{"serve", "--config", d.config()}
	d.start(t)
	t.Cleanup(d.Kill)
	return d
}

// startOn starts a daemon whose root is dir.
func startOn(t *testing.T, dir string) *daemon {
	t.Helper()
	d := newDaemon(t)
	d.Root = dir
	d.configure(t, []daemonUser{{name: "alice"}}, "")
	d.args = []string{"serve", "--config", d.config()}
	d.start(t)
	t.Cleanup(d.Kill)
	return d
}

// newDaemon returns a daemon that has keys and a root, and does not run.
func newDaemon(t *testing.T) *daemon {
	t.Helper()
	d := &daemon{bin: bin, Dir: t.TempDir(), Root: t.TempDir()}
	d.Login = testpeer.Login{
		Host: "127.0.0.1", User: "alice",
		Identity:   testpeer.Key(t, d.Dir, "id_ed25519", "ed25519"),
		KnownHosts: filepath.Join(d.Dir, "known_hosts"),
	}
	return d
}

func (d *daemon) config() string { return filepath.Join(d.Dir, "transferd.yaml") }

// configure writes the configuration file.
func (d *daemon) configure(t *testing.T, users []daemonUser, more string) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "state_dir: %q\nusers:\n", filepath.Join(d.Dir, "state"))
	for _, u := range users {
		fmt.Fprintf(&b, "  - name: %s\n    root: %q\n    authorized_keys_file: %q\n", u.name, d.Root, d.Identity+".pub")
		if u.permissions != "" {
			fmt.Fprintf(&b, "    permissions: [%s]\n", u.permissions)
		}
	}
	b.WriteString(more)
	check(t, os.WriteFile(d.config(), []byte(b.String()), 0o600))
}

// as is the daemon's login for another user with the same key.
func (d *daemon) as(user string) testpeer.Login {
	l := d.Login
	l.User = user
	return l
}

// reload sends SIGHUP and returns when the log has one more line with said.
func (d *daemon) reload(t *testing.T, said string) {
	t.Helper()
	before := strings.Count(d.Log(), said)
	check(t, d.cmd.Process.Signal(syscall.SIGHUP))
	waitFor(t, "the log to say "+said, func() bool { return strings.Count(d.Log(), said) > before })
}

// An outcome is how a command ended.
type outcome struct {
	code           int
	stdout, stderr string
}

// ends runs a command to its end, however that comes out. The command line is
// in what wantOutcome reports.
func ends(t *testing.T, cmd *exec.Cmd) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", cmd, err)
	}
	o := outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	t.Logf("%s %s\nexit %d\n%s%s", filepath.Base(cmd.Path), strings.Join(cmd.Args[1:], " "), o.code, o.stdout, o.stderr)
	return o
}

// wantOutcome runs cmd, which must end with code and tell on stderr every one of says.
func wantOutcome(t *testing.T, cmd *exec.Cmd, code int, says ...string) outcome {
	t.Helper()
	o := ends(t, cmd)
	if o.code != code {
		t.Errorf("%s: exit %d, want %d\n%s%s", cmd, o.code, code, o.stdout, o.stderr)
	}
	for _, text := range says {
		if !strings.Contains(o.stderr, text) {
			t.Errorf("%s: stderr does not say %q:\n%s", cmd, text, o.stderr)
		}
	}
	return o
}

// transferd returns transferd with args, and a home of its own.
func transferd(ctx context.Context, home string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "transferd"), args...)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_STATE_HOME=", "XDG_CONFIG_HOME=")
	return cmd
}

// localClient is a client of no server.
func localClient(t *testing.T) client {
	t.Helper()
	return newClient(t, testpeer.Login{Port: 22, Identity: "none", KnownHosts: "none"})
}
