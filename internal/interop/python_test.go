//go:build unix

package interop

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"

	"transferd/internal/testpeer"
)

// An independent client is testdata/native_client.py: it was written from
// docs/protocol.md and shares no code with ours, so that what both understand
// is what the document says.
type independent struct {
	python string
	road   string
	d      *daemon
	remote string // the directory that it works in, as it asks for it
	dir    string // and where that lies
	wrong  string // a key that nobody authorized
}

// command returns the client's run of one phase of testdata/native_steps.py.
func (c independent) command(t *testing.T, phase string) *exec.Cmd {
	t.Helper()
	settings, err := json.Marshal(map[string]any{
		"host": c.d.Host, "ssh_port": c.d.Port, "tcp_port": c.d.TCPPort, "user": c.d.User,
		"identity": c.d.Identity, "wrong": c.wrong, "known_hosts": c.d.KnownHosts,
		"remote": c.remote, "dir": c.dir, "transferd": filepath.Join(c.d.bin, "transferd"),
	})
	check(t, err)
	// -B: the sources get no compiled copies beside them.
	return exec.CommandContext(t.Context(), c.python, "-B", filepath.Join("testdata", "native_steps.py"), phase, c.road, string(settings))
}

// nativePython finds a Python that has what the independent client needs.
func nativePython(t *testing.T) string {
	t.Helper()
	for _, python := range []string{"/usr/bin/python3", "python3"} {
		if exec.CommandContext(t.Context(), python, "-c", "import paramiko, OpenSSL").Run() == nil {
			return python
		}
	}
	return testpeer.Need(t, "python3 with paramiko and pyOpenSSL")
}

// TestAnIndependentClient: who has read only docs/protocol.md can speak it on
// every road, and resumes an upload behind the death of the server.
func TestAnIndependentClient(t *testing.T) {
	python := nativePython(t)
	for _, road := range []string{"tcp", "ssh", "stdio"} {
		t.Run(road, func(t *testing.T) {
			d := startDaemon(t)
			c := independent{python: python, road: road, d: d, remote: "/", dir: d.Root}
			c.wrong = testpeer.Key(t, d.Dir, "wrong", "ed25519")
			if road == "stdio" { // which is not confined
				c.remote = d.Root
			}
			run(t, c.command(t, "all"))
			c.breakOff(t)
			d.Restart(t)
			run(t, c.command(t, "resumed"))
		})
	}
}

// breakOff kills the server in the middle of an upload, of which something is
// durable. Over stdio the client does that itself.
func (c independent) breakOff(t *testing.T) {
	t.Helper()
	cmd := c.command(t, "broken")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	c.d.Kill()
	if err := cmd.Wait(); err != nil || line != "durable\n" {
		t.Fatalf("the client said %q: %v\n%s", line, err, &stderr)
	}
}
