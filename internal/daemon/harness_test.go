package daemon

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"transferd/config"
	"transferd/internal/testpeer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait for something that must happen.
const patience = 30 * time.Second

// A running is a daemon inside the test's process.
type running struct {
	t       *testing.T
	login   testpeer.Login
	root    string
	keys    string // the authorized_keys file
	addrs   []string
	signals chan os.Signal
	stdout  *output
	log     *output

	mu    sync.Mutex
	flags config.ServerFlags
	file  string
	done  chan error
}

// start runs a daemon with one user, the account of the test, on loopback.
// adjust may change what it is told.
func start(t *testing.T, adjust func(*running)) *running {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	r := &running{
		t:    t,
		root: filepath.Join(dir, "root"),
		keys: filepath.Join(dir, "authorized_keys"),
		login: testpeer.Login{
			Host:       "127.0.0.1",
			User:       me.Username,
			Identity:   testpeer.Key(t, dir, "id_ed25519", "ed25519"),
			KnownHosts: filepath.Join(dir, "known_hosts"),
		},
		signals: make(chan os.Signal, 1),
		stdout:  newOutput(),
		log:     newOutput(),
		done:    make(chan error, 1),
	}
	if err := os.Mkdir(r.root, 0o700); err != nil {
		t.Fatal(err)
	}
	public, err := os.ReadFile(r.login.Identity + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	write(t, r.keys, string(public))
	r.flags = config.ServerFlags{
		SSHListen:      []string{"127.0.0.1:0"},
		Root:           r.root,
		AuthorizedKeys: r.keys,
		StateDir:       filepath.Join(dir, "state"),
		LogLevel:       "debug",
	}
	if adjust != nil {
		adjust(r)
	}
	// Not the test's context: that ends before the cleanup that ends the daemon.
	ctx := context.WithoutCancel(t.Context())
	go func() {
		r.done <- Run(ctx, Options{Load: r.load, Signals: r.signals, Stdout: r.stdout, Stderr: r.log})
	}()
	r.waitReady()
	t.Cleanup(r.stop)
	return r
}

func (r *running) load() (config.Server, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return config.LoadServer(r.file, r.flags)
}

// waitReady reads where the daemon listens and who it is.
func (r *running) waitReady() {
	r.t.Helper()
	r.mu.Lock()
	want := len(r.flags.SSHListen)
	r.mu.Unlock()
	line := regexp.MustCompile(`(?m)^transferd: ssh listening on (\S+)$`)
	r.stdout.wait(r.t, r.done, func(text string) bool {
		return len(line.FindAllString(text, -1)) == want
	})
	for _, found := range line.FindAllStringSubmatch(r.stdout.String(), -1) {
		r.addrs = append(r.addrs, found[1])
	}
	_, port, _ := strings.Cut(r.addrs[0][strings.LastIndexByte(r.addrs[0], ']')+1:], ":")
	r.login.Port, _ = strconv.Atoi(port)
	public, err := exec.CommandContext(r.t.Context(), testpeer.Need(r.t, "ssh-keygen"), "-y",
		"-f", filepath.Join(r.flags.StateDir, hostKeyName)).Output()
	if err != nil {
		r.t.Fatal(err)
	}
	r.login.WriteKnownHosts(r.t, string(public))
}

// stop ends the daemon as systemd does. It may be called again.
func (r *running) stop() {
	if r.done == nil {
		return
	}
	r.signals <- syscall.SIGTERM
	select {
	case err := <-r.done:
		if err != nil {
			r.t.Errorf("Run = %v", err)
		}
	case <-time.After(patience):
		r.t.Error("the daemon does not end")
	}
	r.done = nil
	if r.t.Failed() {
		r.t.Logf("log of the daemon:\n%s", r.log)
	}
}

// hup makes the daemon read its configuration again, and waits until its log
// says what.
func (r *running) hup(what string) {
	r.t.Helper()
	before := strings.Count(r.log.String(), what)
	r.signals <- syscall.SIGHUP
	r.log.wait(r.t, r.done, func(text string) bool { return strings.Count(text, what) > before })
}

// client runs a stock ssh, scp or sftp with args behind the login's options.
func (r *running) client(program, stdin string, args ...string) (string, error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, testpeer.Need(r.t, program), append(r.login.Options(), args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// An output collects what is written, and can be waited for.
type output struct {
	mu      sync.Mutex
	text    strings.Builder
	changed chan struct{}
}

func newOutput() *output { return &output{changed: make(chan struct{}, 1)} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.changed <- struct{}{}:
	default:
	}
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// wait returns when the text is as enough wants it.
func (o *output) wait(t *testing.T, ended <-chan error, enough func(string) bool) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for !enough(o.String()) {
		select {
		case <-o.changed:
		case err := <-ended:
			t.Fatalf("the daemon ended: %v\n%s", err, o)
		case <-timer.C:
			t.Fatalf("waited in vain; there is only:\n%s", o)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func (o *output) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(o.String())) }
