//go:build linux

package interop

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"transferd/internal/testpeer"
)

// refusedBecause logs in where there is no place, and returns what the daemon
// says about it.
func refusedBecause(t *testing.T, l testpeer.Login) string {
	t.Helper()
	conn := dialSSH(t, l)
	defer func() { _ = conn.Close() }()
	_, err := conn.NewSession()
	var refused *ssh.OpenChannelError
	if !errors.As(err, &refused) {
		t.Fatalf("a session beyond the limit: %v", err)
	}
	return refused.Message
}

func TestLimitsOfConnections(t *testing.T) {
	for _, test := range []struct{ name, limits, says string }{
		{"per_source", "limits: {per_source: 3}\n", "127.0.0.1 has its limit of 3 connections"},
		{"connections", "limits: {connections: 3}\n", "the server has its limit of 3 connections"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := startConfigured(t, []daemonUser{{name: "alice"}}, test.limits)
			var inside []*rawSFTP
			for range 3 {
				inside = append(inside, dialRaw(t, d.Login))
			}
			if says := refusedBecause(t, d.Login); !strings.Contains(says, test.says) {
				t.Errorf("refused with %q, want %q", says, test.says)
			}
			c := newClient(t, d.Login)
			wantOutcome(t, c.command(t.Context(), "ls", c.remote("/")), 3, test.says, "hint: ")
			for _, r := range inside { // they are not disturbed
				r.must(t, fxStat, "/")
			}
			// And who goes makes room.
			check(t, inside[0].conn.Close())
			waitFor(t, "the place to be free", func() bool { return strings.Count(d.Log(), "msg=logout") > 0 })
			wantOutcome(t, c.command(t.Context(), "ls", c.remote("/")), 0)
			// A limit that grows counts at once.
			d.configure(t, []daemonUser{{name: "alice"}}, strings.Replace(test.limits, "3", "30", 1))
			d.reload(t, "msg=reloaded")
			for range 10 {
				dialRaw(t, d.Login)
			}
		})
	}
}

func TestHandshakeAndIdleTimeouts(t *testing.T) {
	d := startConfigured(t, []daemonUser{{name: "alice"}}, "limits: {handshake_timeout: 700ms, idle_timeout: 1s}\n")
	ended := func(what string, r io.Reader, start time.Time, least time.Duration) {
		t.Helper()
		_, err := io.Copy(io.Discard, r)
		if took := time.Since(start); took < least {
			t.Errorf("%s ended after %v (%v)", what, took, err)
		}
	}
	start := time.Now()
	mute := dialTCP(t, d.Login)
	check(t, mute.SetReadDeadline(start.Add(time.Minute)))
	ended("a mute connection", mute, start, 600*time.Millisecond)
	begin := time.Now()
	idle := dialRaw(t, d.Login)
	ended("an idle session", idle.out, begin, 900*time.Millisecond)
	waitFor(t, "the log to say that a session was idle", func() bool { return strings.Contains(d.Log(), "no data for too long") })
	// One that does something stays, however long.
	busy := dialRaw(t, d.Login)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for range 25 {
		<-tick.C
		busy.must(t, fxStat, "/")
	}
}

func TestReload(t *testing.T) {
	d := startConfigured(t, []daemonUser{{name: "alice"}, {name: "bob"}}, "")
	writeRandom(t, filepath.Join(d.Root, "file"), 1000)
	alice := dialRaw(t, d.Login)
	works := func(user string) bool {
		t.Helper()
		c := newClient(t, d.as(user))
		return ends(t, c.command(t.Context(), "ls", c.remote("/"))).code == 0
	}
	if !works("bob") || works("carol") {
		t.Error("bob cannot log in, or carol can")
	}
	d.configure(t, []daemonUser{{"alice", "list"}, {name: "carol"}}, "")
	d.reload(t, "msg=reloaded")
	if works("bob") || !works("carol") {
		t.Error("after a reload bob can log in, or carol cannot")
	}
	alice.must(t, fxStat, "/") // a session that runs is not ended
	if code := dialRaw(t, d.Login).must(t, fxOpen, "/file", uint32(fxfRead), noAttrs).status(); code != statusDenied {
		t.Errorf("alice reads with status %d after a reload took that away", code)
	}
	for name, bad := range map[string]string{
		"no YAML":       "users: [\n",
		"unknown key":   "userz: []\n",
		"no unit":       "users: []\nlimits: {idle_timeout: 10}\n",
		"absent root":   "users: [{name: alice, root: /does/not/exist, authorized_keys_file: " + d.Identity + ".pub}]\n",
		"absent keys":   "users: [{name: alice, root: " + d.Root + ", authorized_keys_file: /does/not/exist}]\n",
		"later setting": "users: [{name: alice, root: " + d.Root + ", quota: 5GiB}]\n",
		"later section": "users: []\nmetrics: {listen: \":9\"}\n",
	} {
		check(t, os.WriteFile(d.config(), []byte(bad), 0o600))
		d.reload(t, "the configuration is wrong, the old one stays")
		if !works("carol") || works("bob") {
			t.Errorf("%s: a bad configuration has changed who may log in", name)
		}
	}
	check(t, os.Remove(d.config()))
	d.reload(t, "the configuration is wrong, the old one stays")
	d.configure(t, []daemonUser{{name: "bob"}}, "")
	d.reload(t, "msg=reloaded")
	if !works("bob") || works("carol") {
		t.Error("after a good configuration again bob cannot log in, or carol can")
	}
}

func TestTerminatedDaemonKeepsWhatArrived(t *testing.T) {
	d := startDaemon(t)
	dir := t.TempDir()
	src := filepath.Join(dir, "stack")
	writeRandom(t, src, stopSize)
	c := newClient(t, d.Login)
	cmd := c.command(t.Context(), "copy", "-q", "--retries", "0", "--bwlimit", stopRate, src, c.remote("/copy"))
	check(t, cmd.Start())
	waitFor(t, "part of the copy to be durable", func() bool { return journalled(d.Root) })
	start := time.Now()
	check(t, d.cmd.Process.Signal(syscall.SIGTERM))
	<-d.done
	t.Logf("the daemon ended after %v with %v", time.Since(start), d.cmd.ProcessState)
	if code := d.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit %d after SIGTERM\n%s", code, d.Log())
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 6 {
		t.Errorf("the client: %v, want exit 6", err)
	}
	d.Restart(t)
	r := c.copy(t, src, c.remote("/copy"))
	t.Logf("then %+v", r)
	if r.BytesResumed == 0 {
		t.Error("nothing was resumed")
	}
	sameFile(t, filepath.Join(d.Root, "copy"), src)
}

func TestReputAfterTerminatedDaemonIsRight(t *testing.T) {
	d := startDaemon(t)
	program := testpeer.Need(t, "sftp")
	src, remote := filepath.Join(t.TempDir(), "stack"), filepath.Join(d.Root, "stack")
	writeRandom(t, src, stopSize)
	batch := func(verb string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), program, append(d.Options(), "-l", "400000", "-b", "-", d.Target())...)
		cmd.Stdin = strings.NewReader(verb + " " + src + " /stack\n")
		return cmd
	}
	put := batch("put")
	check(t, put.Start())
	waitFor(t, "the upload to be under way", func() bool {
		info, err := os.Stat(remote)
		return err == nil && info.Size() > 8<<20
	})
	check(t, d.cmd.Process.Signal(syscall.SIGTERM))
	<-d.done
	_ = put.Wait() // it lost its server, or was done before
	d.Restart(t)
	info, err := os.Stat(remote)
	check(t, err)
	t.Logf("%d bytes had arrived", info.Size())
	if info.Size() < stopSize {
		run(t, batch("reput"))
	}
	sameFile(t, remote, src)
}

// The client reconnects by itself when the daemon comes back.
func TestCopyOutlivesAnOrderlyRestart(t *testing.T) {
	d := startDaemon(t)
	dir := t.TempDir()
	writeRandom(t, filepath.Join(d.Root, "stack"), stopSize)
	c := newClient(t, d.Login)
	dst := filepath.Join(dir, "copy")
	cmd := c.command(t.Context(), "copy", "--json", "--bwlimit", stopRate, c.remote("/stack"), dst)
	var events strings.Builder
	cmd.Stdout = &events
	check(t, cmd.Start())
	waitFor(t, "part of the copy to be durable", func() bool { return journalled(dir) })
	check(t, d.cmd.Process.Signal(syscall.SIGTERM))
	<-d.done
	d.Restart(t)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("copy: %v\n%s", err, events.String())
	}
	sameFile(t, dst, filepath.Join(d.Root, "stack"))
	r := parseDone(t, []byte(events.String()))
	t.Logf("%+v", r)
	if r.BytesSent > stopSize+(96<<20) {
		t.Errorf("%d bytes were sent again", r.BytesSent-stopSize)
	}
}
