//go:build unix

package testpeer

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestStockClientsReachStockSSHD(t *testing.T) {
	for _, external := range []bool{false, true} {
		s := StartSSHD(t, SSHDOptions{External: external})
		out, err := exec.CommandContext(t.Context(), Need(t, "ssh"), append(s.Options(), s.Target(), "echo", "hello")...).Output()
		if err != nil || string(out) != "hello\n" {
			t.Errorf("ssh echo = %q, %v\n%s", out, err, s.Log())
		}
		from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
		if err := os.WriteFile(from, []byte("contents"), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), Need(t, "scp"), append(s.Options(), from, s.Target()+":"+to)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("scp: %v\n%s\n%s", err, out, s.Log())
		}
		if got, err := os.ReadFile(to); err != nil || string(got) != "contents" {
			t.Errorf("scp left %q, %v", got, err)
		}
	}
}

func TestKillEndsSessionsAndRestartKeepsThePort(t *testing.T) {
	s := StartSSHD(t, SSHDOptions{})
	cmd := exec.CommandContext(t.Context(), Need(t, "ssh"), append(s.Options(), s.Target(), "echo ready; exec cat")...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stdout.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	if err := cmd.Wait(); err == nil {
		t.Error("a session outlived its killed sshd")
	}
	_ = stdin.Close()
	s.Restart(t)
	out, err := exec.CommandContext(t.Context(), Need(t, "ssh"), append(s.Options(), s.Target(), "echo", "again")...).Output()
	if err != nil || string(out) != "again\n" {
		t.Errorf("ssh after Restart = %q, %v", out, err)
	}
}
