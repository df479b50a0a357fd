// Package testpeer finds and runs the real programs that tests speak to: stock
// OpenSSH and whatever other clients are installed. It is for tests only, keeps
// everything it makes in the test's own directories, and reads no file of the
// person who runs the tests.
package testpeer

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// RequireEnv names the variable that makes a missing peer a failure: CI sets it
// to 1, so that nothing is left out there unnoticed.
const RequireEnv = "TRANSFER_REQUIRE_PEERS"

// Need returns the absolute path of program. Where it is not installed the
// test is skipped with a reason, and fails if TRANSFER_REQUIRE_PEERS is 1.
func Need(t testing.TB, program string) string {
	t.Helper()
	if path := find(program); path != "" {
		return path
	}
	if os.Getenv(RequireEnv) == "1" {
		t.Fatalf("%s is not installed, and %s=1 wants every peer", program, RequireEnv)
	}
	t.Skipf("%s is not installed; scripts/test.sh installs it where it can", program)
	return ""
}

// find looks in PATH and where systems keep what people do not call themselves.
func find(program string) string {
	if path, err := exec.LookPath(program); err == nil {
		if path, err = filepath.Abs(path); err == nil {
			return path
		}
	}
	for _, dir := range []string{"/usr/sbin", "/usr/lib/openssh", "/usr/libexec/openssh", "/usr/libexec", "/usr/lib/ssh"} {
		path := filepath.Join(dir, program)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// Key makes a key pair with ssh-keygen and returns the path of the private
// half; ".pub" behind it is the public one. kind is what ssh-keygen -t takes.
func Key(t testing.TB, dir, name, kind string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	cmd := exec.CommandContext(t.Context(), Need(t, "ssh-keygen"), "-q", "-t", kind, "-N", "", "-C", name, "-f", path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return path
}

// A Login is what a stock client needs to reach a server: its address, who to
// be, and what to trust.
type Login struct {
	Host       string
	Port       int
	User       string
	Identity   string // path of the private key
	KnownHosts string // path
}

// Target is user@host, as ssh and sftp take it; with a colon and a path behind
// it scp's.
func (l Login) Target() string {
	if strings.Contains(l.Host, ":") {
		return l.User + "@[" + l.Host + "]"
	}
	return l.User + "@" + l.Host
}

// Addr is host:port.
func (l Login) Addr() string {
	if strings.Contains(l.Host, ":") {
		return "[" + l.Host + "]:" + strconv.Itoa(l.Port)
	}
	return l.Host + ":" + strconv.Itoa(l.Port)
}

// Options returns the flags for ssh, scp and sftp that make them use this login
// and nothing of the person who runs the test.
func (l Login) Options() []string {
	return []string{
		"-F", "/dev/null",
		"-o", "Port=" + strconv.Itoa(l.Port),
		"-o", "IdentityFile=" + l.Identity,
		"-o", "IdentitiesOnly=yes",
		"-o", "IdentityAgent=none",
		"-o", "UserKnownHostsFile=" + l.KnownHosts,
		"-o", "GlobalKnownHostsFile=/dev/null",
		"-o", "StrictHostKeyChecking=yes",
		"-o", "PasswordAuthentication=no",
		"-o", "BatchMode=yes",
		"-o", "LogLevel=ERROR",
	}
}

// WriteKnownHosts makes l.KnownHosts hold hostKey, a public key line, for
// exactly this host and its ports.
func (l Login) WriteKnownHosts(t testing.TB, hostKey string, morePorts ...int) {
	t.Helper()
	fields := strings.Fields(hostKey)
	if len(fields) < 2 {
		t.Fatalf("not a public key: %q", hostKey)
	}
	lines := ""
	for _, port := range append([]int{l.Port}, morePorts...) {
		lines += "[" + l.Host + "]:" + strconv.Itoa(port) + " " + fields[0] + " " + fields[1] + "\n"
	}
	if err := os.WriteFile(l.KnownHosts, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
}
