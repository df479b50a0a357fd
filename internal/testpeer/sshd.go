//go:build unix

package testpeer

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// SSHDOptions shapes a stock sshd. The zero value is a plain one with
// internal-sftp.
type SSHDOptions struct {
	// External serves sftp by the sftp-server program instead of in sshd's own
	// process.
	External bool

	// Config lines come before our own; sshd takes the first that names a
	// keyword. "Subsystem" lines therefore win too.
	Config []string

	Host string   // the address to listen on; "" is 127.0.0.1
	Wrap []string // a command that runs sshd, its arguments: "ip netns exec x"
}

// An SSHD is a running stock sshd on a loopback port, with keys of its own.
type SSHD struct {
	Login
	Dir            string // holds everything: keys, sshd_config
	HostKey        string // path of the private host key
	AuthorizedKeys string // path; read at each login

	program []string // and its first arguments
	config  string

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has been waited for
	log  bytes.Buffer
}

// startTimeout is long because nine test binaries may share two cores.
const startTimeout = 30 * time.Second

// StartSSHD starts an sshd; the test's cleanup ends it and all its sessions.
// Where none is installed the test is skipped as Need says.
func StartSSHD(t testing.TB, o SSHDOptions) *SSHD {
	t.Helper()
	program := Need(t, "sshd")
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		// Debian's init script makes it; without it sshd refuses to start.
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	s := &SSHD{
		Login: Login{
			Host:       cmp.Or(o.Host, "127.0.0.1"),
			User:       me.Username,
			Identity:   Key(t, dir, "id_ed25519", "ed25519"),
			KnownHosts: filepath.Join(dir, "known_hosts"),
		},
		Dir:            dir,
		HostKey:        Key(t, dir, "host_ed25519", "ed25519"),
		AuthorizedKeys: filepath.Join(dir, "authorized_keys"),
		program:        append(slices.Clone(o.Wrap), program),
		config:         filepath.Join(dir, "sshd_config"),
	}
	copyFile(t, s.Identity+".pub", s.AuthorizedKeys)
	if o.External {
		o.Config = append(o.Config, "Subsystem sftp "+Need(t, "sftp-server"))
	}
	s.writeConfig(t, o.Config)
	t.Cleanup(s.Kill)
	// sshd cannot take port 0, so a free port is guessed until one works.
	for attempt := range 20 {
		s.Port = freePort(t)
		err := s.start(t)
		if err == nil {
			break
		}
		if attempt == 19 || !strings.Contains(s.Log(), "Address already in use") {
			t.Fatalf("sshd does not start: %v\n%s", err, s.Log())
		}
	}
	public, err := os.ReadFile(s.HostKey + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	s.WriteKnownHosts(t, string(public))
	return s
}

func (s *SSHD) writeConfig(t testing.TB, first []string) {
	t.Helper()
	lines := append([]string(nil), first...)
	if !strings.Contains(strings.Join(first, "\n"), "Subsystem ") {
		lines = append(lines, "Subsystem sftp internal-sftp")
	}
	lines = append(
		lines,
		"HostKey "+s.HostKey,
		"AuthorizedKeysFile "+s.AuthorizedKeys,
		"PidFile none",
		"UsePAM no",
		// Nothing of the account's own: a shell's rc file may do anything, and take
		// any time for it.
		"SetEnv HOME="+s.Dir,
		"StrictModes no", // the test's directory may lie below a group-writable one
		"PermitRootLogin yes",
		"PasswordAuthentication no",
		"KbdInteractiveAuthentication no",
		"PrintMotd no",
		"MaxStartups 100:30:200",
		"LogLevel VERBOSE",
	)
	if err := os.WriteFile(s.config, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Restart starts sshd again on its old port after Kill.
func (s *SSHD) Restart(t testing.TB) {
	t.Helper()
	if err := s.start(t); err != nil {
		t.Fatalf("sshd does not start again: %v\n%s", err, s.Log())
	}
}

// start returns when sshd listens.
func (s *SSHD) start(t testing.TB) error {
	t.Helper()
	// Not the test's context: cleanups still need sshd, and Kill ends it.
	argv := append(slices.Clone(s.program), "-D", "-e", "-f", s.config, "-o", "ListenAddress="+s.Host+":"+strconv.Itoa(s.Port))
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), argv[0], argv[1:]...)
	// A pipe of our own: cmd.Wait would wait for every session that holds it.
	stderr, w, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd.Stderr = w
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		_ = stderr.Close()
		return err
	}
	done, listening := make(chan struct{}), make(chan struct{})
	s.mu.Lock()
	s.cmd, s.done = cmd, done
	s.mu.Unlock()
	go s.readLog(stderr, listening)
	go func() {
		defer close(done)
		_ = cmd.Wait()
	}()
	timer := time.NewTimer(startTimeout)
	defer timer.Stop()
	select {
	case <-listening:
		return nil
	case <-done:
		return fmt.Errorf("exited: %v", cmd.ProcessState)
	case <-timer.C:
		s.Kill()
		return fmt.Errorf("does not listen after %v", startTimeout)
	}
}

func (s *SSHD) readLog(r *os.File, listening chan<- struct{}) {
	defer func() { _ = r.Close() }()
	told := false
	for lines := bufio.NewScanner(r); lines.Scan(); {
		s.mu.Lock()
		s.log.Write(append(lines.Bytes(), '\n'))
		s.mu.Unlock()
		if !told && strings.HasPrefix(lines.Text(), "Server listening on ") {
			told = true
			close(listening)
		}
	}
}

// Log returns what sshd and its sessions have written so far.
func (s *SSHD) Log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// Kill ends sshd and every session of it at once, as a power cut would. It may
// be called again.
func (s *SSHD) Kill() {
	s.mu.Lock()
	cmd, done := s.cmd, s.done
	s.cmd = nil
	s.mu.Unlock()
	if cmd == nil {
		return
	}
	// The listener first, or it would accept while its sessions die.
	victims := descendants(cmd.Process.Pid)
	_ = cmd.Process.Kill()
	<-done
	for _, pid := range victims {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// KillSessions ends every session at once and leaves sshd listening.
func (s *SSHD) KillSessions() {
	s.mu.Lock()
	cmd := s.cmd
	s.mu.Unlock()
	if cmd == nil {
		return
	}
	for _, pid := range descendants(cmd.Process.Pid) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// descendants returns the processes below pid, as /proc shows them.
func descendants(pid int) []int {
	parents := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended meanwhile
		}
		// "pid (comm) state ppid …", where comm may hold anything.
		_, rest, _ := strings.Cut(string(text[bytes.LastIndexByte(text, ')')+1:]), " ")
		fields := strings.Fields(rest)
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil || len(fields) < 2 {
			continue
		}
		if parent, err := strconv.Atoi(fields[1]); err == nil {
			parents[parent] = append(parents[parent], child)
		}
	}
	var all []int
	for queue := parents[pid]; len(queue) > 0; queue = queue[1:] {
		all = append(all, queue[0])
		queue = append(queue, parents[queue[0]]...)
	}
	return all
}

func freePort(t testing.TB) int {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return port
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
