package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"transferd/config"
	"transferd/internal/testpeer"
)

func TestStockClients(t *testing.T) {
	r := start(t, nil)
	local := filepath.Join(t.TempDir(), "local")
	data := make([]byte, 3<<20)
	_, _ = rand.Read(data)
	write(t, local, string(data))

	if out, err := r.client("scp", "", local, r.login.Target()+":/by-scp"); err != nil {
		t.Errorf("scp up: %v\n%s", err, out)
	}
	if got := read(t, filepath.Join(r.root, "by-scp")); got != string(data) {
		t.Errorf("scp left %d bytes, other than the %d sent", len(got), len(data))
	}
	if out, err := r.client("scp", "", r.login.Target()+":by-scp", local+".back"); err != nil {
		t.Errorf("scp down: %v\n%s", err, out)
	}
	if got := read(t, local+".back"); got != string(data) {
		t.Error("scp brought back other bytes")
	}
	batch := "mkdir d\nput " + local + " d/x\nrename d/x d/y\nls -l d\npwd\n"
	out, err := r.client("sftp", "", "-b", batchFile(t, batch), r.login.Target())
	if err != nil || !strings.Contains(out, "d/y") || !strings.Contains(out, "Remote working directory: /\n") {
		t.Errorf("sftp: %v\n%s", err, out)
	}
	if got := read(t, filepath.Join(r.root, "d", "y")); got != string(data) {
		t.Error("sftp left other bytes")
	}
	log := r.log.String()
	if !strings.Contains(log, "msg=login") || strings.Contains(log, "level=ERROR") {
		t.Errorf("the log has no login, or an error:\n%s", log)
	}
	if fields := regexp.MustCompile(`(?m)^.*user=.*user=.*$`).FindString(log); fields != "" {
		t.Errorf("user twice in one line: %s", fields)
	}
}

func TestEverythingElseIsRefusedInWords(t *testing.T) {
	r := start(t, nil)
	for name, run := range map[string]func() (string, error){
		"exec":      func() (string, error) { return r.client("ssh", "", r.login.Target(), "id") },
		"shell":     func() (string, error) { return r.client("ssh", "exit 0\n", "-T", r.login.Target()) },
		"pty":       func() (string, error) { return r.client("ssh", "exit 0\n", "-tt", r.login.Target()) },
		"subsystem": func() (string, error) { return r.client("ssh", "", "-s", r.login.Target(), "netconf") },
		"old scp":   func() (string, error) { return r.client("scp", "", "-O", r.keys, r.login.Target()+":x") },
	} {
		out, err := run()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || !strings.Contains(out, "this account is confined to file transfer") {
			t.Errorf("%s: %v\n%s", name, err, out)
		} else if exit.ExitCode() != 1 {
			t.Errorf("%s: exit %d, want 1", name, exit.ExitCode())
		}
	}
	// ssh does not show why a channel was refused, unless it is asked.
	if out, err := r.client("ssh", "", "-W", "127.0.0.1:1", r.login.Target()); err == nil {
		t.Errorf("forwarding works: %s", out)
	}
}

func TestKeysAreReadAtEachLogin(t *testing.T) {
	r := start(t, nil)
	good := read(t, r.keys)
	login := func() error {
		_, err := r.client("sftp", "", "-b", batchFile(t, "pwd\n"), r.login.Target())
		return err
	}
	if err := login(); err != nil {
		t.Fatal(err)
	}
	write(t, r.keys, "# nobody\n")
	if err := login(); err == nil {
		t.Error("a key that was taken out still logs in")
	}
	if !strings.Contains(r.log.String(), "nobody can log in as this user: there are no authorized keys") {
		t.Error("that there is no key any more is not logged")
	}
	write(t, r.keys, "ssh-ed25519 garbage\n"+good)
	if err := login(); err != nil {
		t.Errorf("a bad line before the key: %v", err)
	}
	if n := strings.Count(r.log.String(), "authorized keys that cannot be used"); n != 1 {
		t.Errorf("the bad line is logged %d times", n)
	}
	write(t, r.keys, `command="internal-sftp" `+good)
	if err := login(); err != nil {
		t.Errorf("command=internal-sftp: %v", err)
	}
	write(t, r.keys, `command="backup" `+good)
	out, err := r.client("sftp", "", "-b", batchFile(t, "pwd\n"), r.login.Target())
	if err == nil || !strings.Contains(out, "bound to another command") {
		t.Errorf("command=backup: %v\n%s", err, out)
	}
	write(t, r.keys, `from="203.0.113.1" `+good)
	if err := login(); err == nil {
		t.Error("from= of elsewhere logs in")
	}
	if err := os.Chmod(r.keys, 0o666); err != nil {
		t.Fatal(err)
	}
	write(t, r.keys, good)
	if err := login(); err == nil {
		t.Error("a keys file that all can write logs in")
	}
}

func TestSeveralListeners(t *testing.T) {
	addrs := []string{"127.0.0.1:0", "127.0.0.1:0"}
	var lc net.ListenConfig
	if l, err := lc.Listen(t.Context(), "tcp6", "[::1]:0"); err == nil {
		_ = l.Close()
		addrs = append(addrs, "[::1]:0")
	}
	r := start(t, func(r *running) { r.flags.SSHListen = addrs })
	var dialer net.Dialer
	for _, addr := range r.addrs {
		conn, err := dialer.DialContext(t.Context(), "tcp", addr)
		if err != nil {
			t.Errorf("dial %s: %v", addr, err)
			continue
		}
		hello := make([]byte, len("SSH-2.0-transferd\r\n"))
		if _, err := io.ReadFull(conn, hello); err != nil || string(hello) != "SSH-2.0-transferd\r\n" {
			t.Errorf("%s says %q, %v", addr, hello, err)
		}
		_ = conn.Close()
	}
	if !regexp.MustCompile(`(?m)^transferd: host key SHA256:\S{43} \(ssh-ed25519\)$`).MatchString(r.stdout.String()) {
		t.Errorf("no fingerprint in:\n%s", r.stdout)
	}
	info, err := os.Stat(r.flags.StateDir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("state directory: %v, %v; want mode 0700", info.Mode(), err)
	}
}

func TestTheHostKeyStays(t *testing.T) {
	r := start(t, nil)
	first := r.stdout.String()
	r.stop()
	again := start(t, func(next *running) { next.flags.StateDir = r.flags.StateDir })
	key := regexp.MustCompile(`host key .*`)
	if a, b := key.FindString(first), key.FindString(again.stdout.String()); a != b {
		t.Errorf("%q became %q", a, b)
	}
}

func TestPortInUse(t *testing.T) {
	r := start(t, nil)
	flags := r.flags
	flags.SSHListen = []string{"127.0.0.1:0", r.addrs[0]}
	flags.StateDir = filepath.Join(t.TempDir(), "state")
	err := Run(t.Context(), Options{
		Load:   func() (config.Server, error) { return config.LoadServer("", flags) },
		Stdout: io.Discard,
		Stderr: io.Discard,
	})
	if err == nil || !strings.Contains(err.Error(), r.addrs[0]+" is in use") || !strings.Contains(err.Error(), "--ssh-listen") {
		t.Errorf("Run = %v", err)
	}
}

func TestReload(t *testing.T) {
	me := ""
	r := start(t, func(r *running) {
		me = r.login.User
		r.file = filepath.Join(t.TempDir(), "transferd.yaml")
		write(t, r.file, userList(r, me))
		r.flags = config.ServerFlags{SSHListen: r.flags.SSHListen, StateDir: r.flags.StateDir}
	})
	login := func(user string) error {
		r.login.User = user
		_, err := r.client("sftp", "", "-b", batchFile(t, "pwd\n"), r.login.Target())
		return err
	}
	if login(me) != nil || login("bob") == nil {
		t.Fatal("before the reload others can log in than the file says")
	}
	write(t, r.file, "users: nonsense\n")
	r.hup("the old one stays")
	if err := login(me); err != nil {
		t.Errorf("after a wrong configuration: %v", err)
	}
	write(t, r.file, userList(r, "bob")+"log: {level: warn}\nssh: {listen: [\":1\"]}\n")
	r.mu.Lock()
	r.flags.SSHListen = nil
	r.mu.Unlock()
	r.hup("change with a restart only")
	if login("bob") != nil || login(me) == nil {
		t.Error("after the reload others can log in than the file says")
	}
	if regexp.MustCompile(`msg=login .*user=bob`).MatchString(r.log.String()) {
		t.Error("the log level did not change")
	}
}

func userList(r *running, name string) string {
	return "users:\n  - name: " + name + "\n    root: " + r.root + "\n    authorized_keys_file: " + r.keys + "\n"
}

func TestPermissions(t *testing.T) {
	r := start(t, func(r *running) {
		r.file = filepath.Join(t.TempDir(), "transferd.yaml")
		write(t, r.file, userList(r, r.login.User)+"    permissions: [list, read]\n")
		r.flags = config.ServerFlags{SSHListen: r.flags.SSHListen, StateDir: r.flags.StateDir}
	})
	write(t, filepath.Join(r.root, "x"), "x")
	for command, works := range map[string]bool{"ls": true, "get x /dev/null": true, "rm x": false, "put /etc/passwd p": false} {
		if out, err := r.client("sftp", "", "-b", batchFile(t, command+"\n"), r.login.Target()); (err == nil) != works {
			t.Errorf("%s: %v, want it to work: %v\n%s", command, err, works, out)
		}
	}
}

// Connections that came to a bad end must leave no file descriptor behind; that
// they leave no goroutine TestMain sees.
func TestBadConnectionsLeaveNothing(t *testing.T) {
	r := start(t, nil)
	if out, err := r.client("sftp", "", "-b", batchFile(t, "pwd\n"), r.login.Target()); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	before := settledFiles(t, -1)
	var dialer net.Dialer
	for i := range 50 {
		conn, err := dialer.DialContext(t.Context(), "tcp", r.addrs[0])
		if err != nil {
			t.Fatal(err)
		}
		switch i % 3 {
		case 0:
			_, _ = io.CopyN(conn, rand.Reader, 4096)
		case 1:
			_, _ = io.WriteString(conn, "SSH-2.0-x\r\n")
			_ = conn.(*net.TCPConn).SetLinger(0) // a reset
		}
		_ = conn.Close()
	}
	for range 5 { // clients that are killed in the middle
		cmd := exec.CommandContext(t.Context(), testpeer.Need(t, "sftp"), append(r.login.Options(), r.login.Target())...)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out := newOutput()
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(in, "pwd\n"); err != nil {
			t.Fatal(err)
		}
		out.wait(t, nil, func(text string) bool { return strings.Contains(text, "Remote working") })
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	if after := settledFiles(t, before); after > before {
		t.Errorf("%d files open, %d before", after, before)
	}
}

// settledFiles counts the open files of this process, once they are no more
// than want, or after patience.
func settledFiles(t *testing.T, want int) int {
	t.Helper()
	deadline := time.Now().Add(patience)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) <= want || want < 0 || time.Now().After(deadline) {
			return len(entries)
		}
		<-ticker.C
	}
}

func TestContextEndsTheDaemon(t *testing.T) {
	r := start(t, nil)
	flags := r.flags
	flags.StateDir = filepath.Join(t.TempDir(), "state")
	ctx, cancel := context.WithCancel(t.Context())
	out := newOutput()
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Options{
			Load:   func() (config.Server, error) { return config.LoadServer("", flags) },
			Stdout: out,
			Stderr: io.Discard,
		})
	}()
	out.wait(t, done, func(text string) bool { return strings.Contains(text, "listening") })
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run = %v", err)
	}
}

func TestSecondSignalAtOnceIsTheSameAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signals, ended := make(chan os.Signal), make(chan struct{})
		hurried := make(chan bool, 1)
		go func() { hurried <- impatient(signals, ended) }()
		signals <- syscall.SIGTERM
		synctest.Wait()
		select {
		case <-hurried:
			t.Fatal("a second signal at once means hurry")
		case <-time.After(sameSignal):
		}
		signals <- syscall.SIGHUP
		signals <- syscall.SIGTERM
		if !<-hurried {
			t.Error("a later signal does not mean hurry")
		}
	})
}

func TestListenNameThatNobodyKnows(t *testing.T) {
	err := listenError("ssh", "no.such.invalid:2022", &net.OpError{Op: "listen", Err: &net.DNSError{Err: "no such host", Name: "no.such.invalid", IsNotFound: true}})
	if !strings.Contains(err.Error(), `"no.such.invalid": write an IP address`) {
		t.Errorf("listenError = %v, without a next step", err)
	}
}

func TestCheckFindsEverything(t *testing.T) {
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys")
	write(t, keys, "ssh-ed25519 garbage\n")
	c := config.Server{
		SSH:      config.SSH{HostKeys: []string{filepath.Join(dir, "missing")}},
		StateDir: dir,
		Users: []config.User{
			{Name: "alice", AuthorizedKeysFile: keys},
			{Name: "bob", AuthorizedKeysFile: filepath.Join(dir, "nowhere")},
			{Name: "carol", AuthorizedKeys: []string{"nonsense"}},
		},
	}
	var got []string
	for _, f := range Check(c) {
		got = append(got, f.Key+" "+f.Err.Error())
	}
	faults := strings.Join(got, "\n")
	for _, want := range []string{
		"ssh.host_keys[0] ", `users[0].authorized_keys_file user "alice": ` + keys + ":1: ", "no line of " + keys + " is a key",
		`users[1].authorized_keys_file user "bob": `, `users[2].authorized_keys user "carol": authorized_keys:1: `,
	} {
		if !strings.Contains(faults, want) {
			t.Errorf("nothing of %q in: %s", want, faults)
		}
	}
	if faults := Check(config.Server{StateDir: dir}); len(faults) > 0 {
		t.Errorf("Check of what is right = %v", faults)
	}
}

func batchFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "batch")
	write(t, path, text)
	return path
}
