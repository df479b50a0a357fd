//go:build linux

package sftp

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"transferd/internal/testpeer"
)

// helperRoot names the variable that makes TestServerProcess a server.
const helperRoot = "SFTP_TEST_SERVER_ROOT"

// TestServerProcess is no test but the program that stock clients talk to: it
// serves one session on its stdin and stdout.
func TestServerProcess(t *testing.T) {
	root := os.Getenv(helperRoot)
	if root == "" {
		return
	}
	if err := Serve(t.Context(), stdio{}, diskFS{root}, ServerOptions{}); err != nil {
		fmt.Fprintln(os.Stderr, "serve:", err)
	}
}

type stdio struct{}

func (stdio) Read(p []byte) (int, error)  { return os.Stdin.Read(p) }
func (stdio) Write(p []byte) (int, error) { return os.Stdout.Write(p) }
func (stdio) Close() error                { return os.Stdin.Close() }

// serverScript returns a program that serves root, for sftp -D.
func serverScript(t *testing.T, root string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "server")
	text := fmt.Sprintf("#!/bin/sh\n%s='%s' exec '%s' -test.run='^TestServerProcess$' -test.v=false\n", helperRoot, root, self)
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return script
}

// A stockClient is OpenSSH's sftp connected to a server of ours.
type stockClient struct {
	t      *testing.T
	sftp   string
	script string
	local  string
}

func newStockClient(t *testing.T, d diskFS) stockClient {
	t.Helper()
	return stockClient{t, testpeer.Need(t, "sftp"), serverScript(t, d.root), t.TempDir()}
}

// try runs commands and returns what sftp printed.
func (s stockClient) try(commands ...string) (string, error) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), s.sftp, "-D", s.script, "-b", "-")
	cmd.Dir = s.local
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (s stockClient) run(commands ...string) string {
	s.t.Helper()
	out, err := s.try(commands...)
	if err != nil {
		s.t.Fatalf("sftp: %v\n%s", err, out)
	}
	return out
}

func (s stockClient) file(name string, data []byte) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.local, name), data, 0o640); err != nil {
		s.t.Fatal(err)
	}
}

func randomBytes(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(data)
	return data
}

func TestStockClientRoundTrip(t *testing.T) {
	d := newDiskFS(t)
	s := newStockClient(t, d)
	big := randomBytes(9<<20 + 12345)
	s.file("big", big)
	s.file("empty", nil)
	out := s.run(
		"put -f big", "put -p empty", "mkdir sub", "put big sub/other", "chmod 600 sub/other",
		"rename sub/other sub/renamed", "ln big hard", "ln -s sub/renamed soft", "ls -la", "ls -l sub", "df -h",
		"get big back", "get -p soft back2", "cd sub", "pwd", "version",
	)
	for name, want := range map[string][]byte{
		filepath.Join(d.root, "big"): big, filepath.Join(d.root, "empty"): nil, filepath.Join(d.root, "sub/renamed"): big,
		filepath.Join(d.root, "hard"): big, filepath.Join(s.local, "back"): big, filepath.Join(s.local, "back2"): big,
	} {
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v, want %d", name, len(got), err, len(want))
		}
	}
	if fi, err := os.Stat(filepath.Join(d.root, "sub/renamed")); err != nil || fi.Mode() != 0o600 {
		t.Errorf("mode after chmod: %v, %v", fi.Mode(), err)
	}
	if target, err := os.Readlink(filepath.Join(d.root, "soft")); target != "sub/renamed" {
		t.Errorf("symlink to %q, %v", target, err)
	}
	for _, want := range []string{
		"Remote working directory: /sub", "SFTP protocol version 3", "soft", "-rw-------    ?", "%Capacity",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
	s.run("rm big", "rm sub/renamed", "rmdir sub", "rm soft", "rm hard", "rm empty")
	if left, err := os.ReadDir(d.root); len(left) != 0 || err != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestStockClientResumes(t *testing.T) {
	d := newDiskFS(t)
	s := newStockClient(t, d)
	big := randomBytes(5<<20 + 17)
	s.file("big", big)
	writeFile(t, d, "big", string(big[:2<<20+5]))
	s.run("reput big")
	if got := readFile(t, d, "big"); got != string(big) {
		t.Errorf("after reput %d bytes, want %d", len(got), len(big))
	}
	s.file("back", big[:3<<20+1])
	s.run("reget big back")
	if got, err := os.ReadFile(filepath.Join(s.local, "back")); !bytes.Equal(got, big) {
		t.Errorf("after reget %d bytes, %v, want %d", len(got), err, len(big))
	}
}

func TestStockClientIsRefused(t *testing.T) {
	d := newDiskFS(t)
	s := newStockClient(t, d)
	writeFile(t, d, "a", "a")
	writeFile(t, d, "b", "b")
	s.file("local", []byte("x"))
	for _, tt := range []struct{ command, want string }{
		{"get missing", "not found"},
		{"rm missing", "No such file"},
		{"rmdir a", "No such file"},
		{"mkdir a", "Failure"},
		{"put local a/b", ""},
		{"cd missing", "No such file"},
	} {
		out, err := s.try(tt.command)
		if err == nil || !strings.Contains(out, tt.want) {
			t.Errorf("%s: %v, want a failure with %q:\n%s", tt.command, err, tt.want, out)
		}
	}
}

// Killed in the middle of a stock upload, what is on the disk is the beginning
// of the file, so that reput ends it right.
func TestStockUploadIsAPrefixAfterKill(t *testing.T) {
	d := newDiskFS(t)
	s := newStockClient(t, d)
	big := randomBytes(40 << 20)
	s.file("big", big)
	pid := filepath.Join(t.TempDir(), "pid")
	script, err := os.ReadFile(s.script)
	if err != nil {
		t.Fatal(err)
	}
	killable := s
	killable.script += "-killable"
	text := strings.Replace(string(script), "\n", "\necho $$ > '"+pid+"'\n", 1)
	if err := os.WriteFile(killable.script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		if err := os.RemoveAll(d.abs("big")); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = killable.try("put big")
		}()
		killWhenGrown(t, d.abs("big"), pid, int64(round*7+3)<<20, done)
		<-done
		got := readFile(t, d, "big")
		if !bytes.HasPrefix(big, []byte(got)) {
			t.Fatalf("round %d: %d bytes that are no prefix of the source", round, len(got))
		}
		s.run("reput big")
		if got := readFile(t, d, "big"); got != string(big) {
			t.Fatalf("round %d: after reput %d bytes that are not the source", round, len(got))
		}
	}
}

// killWhenGrown kills the process in the file pid when the file name has size
// bytes, or when done ends first.
func killWhenGrown(t *testing.T, name, pid string, size int64, done <-chan struct{}) {
	t.Helper()
	for {
		select {
		case <-done:
			return
		default:
		}
		if fi, err := os.Stat(name); err != nil || fi.Size() < size {
			continue
		}
		b, err := os.ReadFile(pid)
		if err != nil {
			t.Error(err)
			return
		}
		var n int
		if _, err := fmt.Sscan(string(b), &n); err != nil {
			t.Error(err)
			return
		}
		p, err := os.FindProcess(n)
		if err == nil {
			_ = p.Kill() // it may have ended by itself
		}
		return
	}
}
