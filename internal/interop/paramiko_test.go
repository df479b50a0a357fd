//go:build unix

package interop

import (
	_ "embed"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"transferd/internal/testpeer"
)

//go:embed testdata/paramiko_client.py
var paramikoScript string

// paramikoClient drives python3-paramiko by a small script of our own.
type paramikoClient struct {
	d       *daemon
	program string
}

func startParamiko(t *testing.T, d *daemon) foreign {
	t.Helper()
	return paramikoClient{d: d, program: paramikoPython(t)}
}

// paramikoPython finds a Python that has paramiko: Debian's own, when another
// one comes first in PATH.
func paramikoPython(t *testing.T) string {
	t.Helper()
	for _, python := range []string{"/usr/bin/python3", "python3"} {
		if exec.CommandContext(t.Context(), python, "-c", "import paramiko").Run() == nil {
			return python
		}
	}
	return testpeer.Need(t, "python3 with paramiko")
}

func (c paramikoClient) call(t *testing.T, args ...string) string {
	t.Helper()
	all := append([]string{"-c", paramikoScript, c.d.Host, strconv.Itoa(c.d.Port), c.d.User, c.d.Identity, c.d.KnownHosts}, args...)
	return run(t, exec.CommandContext(t.Context(), c.program, all...))
}

func (c paramikoClient) put(t *testing.T, local, remote string) {
	t.Helper()
	c.call(t, "put", local, remote)
}

func (c paramikoClient) get(t *testing.T, remote, local string) {
	t.Helper()
	c.call(t, "get", remote, local)
}

func (c paramikoClient) putDir(t *testing.T, local, remote string) {
	t.Helper()
	c.call(t, "putdir", local, remote)
}

func (c paramikoClient) list(t *testing.T, remote string) []string {
	t.Helper()
	return strings.Split(strings.TrimSpace(c.call(t, "list", remote)), "\n")
}

func (c paramikoClient) rename(t *testing.T, from, to string) {
	t.Helper()
	c.call(t, "rename", from, to)
}

func (c paramikoClient) remove(t *testing.T, remote string) {
	t.Helper()
	c.call(t, "remove", remote)
}
