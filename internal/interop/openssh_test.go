//go:build linux

package interop

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"transferd/internal/testpeer"
)

// startSubsystem starts a stock sshd whose sftp is ours.
func startSubsystem(t *testing.T) (*testpeer.SSHD, *daemon) {
	t.Helper()
	s := testpeer.StartSSHD(t, testpeer.SSHDOptions{
		Config: []string{"Subsystem sftp " + filepath.Join(bin, "transferd") + " sftp-server"},
	})
	// The clients of the other tests know a daemon by its login.
	return s, &daemon{Login: s.Login, Root: t.TempDir(), Dir: s.Dir}
}

func TestForeignClientsOverOurSubsystem(t *testing.T) {
	for name, start := range map[string]func(t *testing.T, d *daemon) foreign{
		"sftp": startSFTP, "scp": startSCP, "rclone": startRclone, "paramiko": startParamiko,
	} {
		t.Run(name, func(t *testing.T) {
			s, d := startSubsystem(t)
			c := start(t, d)
			dir := t.TempDir()
			many, big := filepath.Join(dir, "many"), filepath.Join(dir, "big")
			check(t, os.Mkdir(many, 0o755))
			var names []string
			for i := range 30 {
				name := "file " + strconv.Itoa(i+10)
				names = append(names, name)
				writeRandom(t, filepath.Join(many, name), int64(i)*1000)
			}
			writeRandom(t, big, 16<<20)
			at := func(name string) string { return filepath.Join(d.Root, name) }

			c.put(t, big, at("big"))
			sameFile(t, at("big"), big)
			c.get(t, at("big"), filepath.Join(dir, "back"))
			sameFile(t, filepath.Join(dir, "back"), big)
			c.putDir(t, many, at("many"))
			for _, name := range names {
				sameFile(t, at("many/"+name), filepath.Join(many, name))
			}
			got := c.list(t, at("many"))
			slices.Sort(got)
			if !slices.Equal(got, names) {
				t.Errorf("listed %q, want %q", got, names)
			}
			c.rename(t, at("big"), at("renamed"))
			c.remove(t, at("renamed"))
			if _, err := os.Lstat(at("renamed")); !os.IsNotExist(err) {
				t.Errorf("the removed file: %v\n%s", err, s.Log())
			}
		})
	}
}

func TestTransferOverOurSubsystem(t *testing.T) {
	s, d := startSubsystem(t)
	c := newClient(t, s.Login)
	src := filepath.Join(t.TempDir(), "src")
	for i, name := range []string{"plain", "with space", "\xff\xfe", "new\nline", "-rf", strings.Repeat("n", 255), "deep/er/file"} {
		check(t, os.MkdirAll(filepath.Dir(filepath.Join(src, name)), 0o750))
		writeRandom(t, filepath.Join(src, name), int64(i)<<18)
	}
	check(t, os.Symlink("plain", filepath.Join(src, "link")))
	check(t, os.Mkdir(filepath.Join(src, "empty"), 0o711))
	up, back := filepath.Join(d.Root, "up"), filepath.Join(t.TempDir(), "back")
	c.copy(t, "-r", "-T", src, c.remote(up))
	c.copy(t, "-r", "-T", c.remote(up), back)
	if diff := cmp.Diff(describe(t, src), describe(t, back)); diff != "" {
		t.Errorf("what came back differs (-want +got):\n%s", diff)
	}
	if again := c.copy(t, "-r", "-T", src, c.remote(up)); again.Files != 0 || again.BytesSent != 0 {
		t.Errorf("a second copy did something: %+v", again)
	}
	big, to := filepath.Join(t.TempDir(), "big"), filepath.Join(d.Root, "big")
	writeRandom(t, big, stopSize)
	cmd := c.command(t.Context(), "copy", "-q", "--retries", "0", "--bwlimit", stopRate, big, c.remote(to))
	check(t, cmd.Start())
	waitFor(t, "part of the copy to be durable", func() bool { return journalled(c.home) })
	s.Kill()
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 6 {
		t.Errorf("the client: %v, want exit 6", err)
	}
	s.Restart(t)
	if r := c.copy(t, big, c.remote(to)); r.BytesResumed == 0 {
		t.Errorf("nothing was resumed: %+v", r)
	}
	sameFile(t, to, big)
}

func TestFlagsOfTheSubsystem(t *testing.T) {
	program := testpeer.Need(t, "sftp")
	dir := t.TempDir()
	local, start := filepath.Join(dir, "local"), filepath.Join(dir, "start")
	writeRandom(t, local, 5000)
	check(t, os.Mkdir(start, 0o755))
	tests := []struct {
		name, flags string
		batch       []string
		fails       string // what sftp says; "" if all goes well
		there       []string
		absent      []string
	}{
		{"plain", "", []string{"cd \"{dir}\"", "put " + local + " x", "rename x y", "rm old"}, "", []string{"y"}, []string{"x", "old"}},
		{"-R lets read", "-R", []string{"cd \"{dir}\"", "ls -l", "get old " + filepath.Join(dir, "got")}, "", []string{"old"}, nil},
		{"-R put", "-R", []string{"put " + local + " \"{dir}/x\""}, "Permission denied", nil, []string{"x"}},
		{"-R rm", "-R", []string{"rm \"{dir}/old\""}, "Permission denied", []string{"old"}, nil},
		{"-R mkdir", "-R", []string{"mkdir \"{dir}/d\""}, "Permission denied", nil, []string{"d"}},
		{"-R rename", "-R", []string{"rename \"{dir}/old\" \"{dir}/new\""}, "Permission denied", []string{"old"}, []string{"new"}},
		{"-R chmod", "-R", []string{"chmod 777 \"{dir}/old\""}, "Permission denied", []string{"old"}, nil},
		{"-d", "-d " + start, []string{"put " + local + " x", "rm old"}, "", []string{"x"}, []string{"old"}},
		{"-P remove", "-P remove,rename,posix-rename", []string{"rm \"{dir}/old\""}, "Permission denied", []string{"old"}, nil},
		{"-P lets the rest", "-P remove", []string{"put " + local + " \"{dir}/x\""}, "", []string{"x", "old"}, nil},
		{"-p", "-p realpath,stat,lstat,opendir,readdir,close,limits", []string{"ls -l \"{dir}\""}, "", []string{"old"}, nil},
		{"-p without open", "-p realpath,stat,lstat,opendir,readdir,close", []string{"get \"{dir}/old\" " + filepath.Join(dir, "no")}, "Permission denied", nil, nil},
		{"-u", "-u 077", []string{"put " + local + " \"{dir}/x\"", "mkdir \"{dir}/d\""}, "", []string{"x", "d"}, nil},
	}
	// One sshd has them all, each as a subsystem of its own name.
	var config []string
	subsystem := func(i int) string { return "flags" + strconv.Itoa(i) }
	for i, test := range tests {
		config = append(config, "Subsystem "+subsystem(i)+" "+filepath.Join(bin, "transferd")+" sftp-server "+test.flags)
	}
	s := testpeer.StartSSHD(t, testpeer.SSHDOptions{Config: config})
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			check(t, os.RemoveAll(start))
			check(t, os.Mkdir(start, 0o755))
			writeRandom(t, filepath.Join(start, "old"), 100)
			cmd := exec.CommandContext(t.Context(), program, append(s.Options(), "-s", subsystem(i), "-b", "-", s.Target())...)
			cmd.Stdin = strings.NewReader(strings.ReplaceAll(strings.Join(test.batch, "\n"), "{dir}", start) + "\n")
			out, err := cmd.CombinedOutput()
			if (err != nil) != (test.fails != "") || !strings.Contains(string(out), test.fails) {
				t.Errorf("sftp: %v, want %q\n%s\n%s", err, test.fails, out, s.Log())
			}
			for _, name := range test.there {
				info, err := os.Lstat(filepath.Join(start, name))
				check(t, err)
				if test.name == "-u" && info.Mode().Perm()&0o077 != 0 {
					t.Errorf("%s has mode %v", name, info.Mode())
				}
			}
			for _, name := range test.absent {
				if _, err := os.Lstat(filepath.Join(start, name)); !os.IsNotExist(err) {
					t.Errorf("%s is there: %v", name, err)
				}
			}
		})
	}
}

func TestCopyThroughAJumpHost(t *testing.T) {
	jump, s := testpeer.StartSSHD(t, testpeer.SSHDOptions{}), testpeer.StartSSHD(t, testpeer.SSHDOptions{})
	d := startDaemon(t)
	// One known_hosts and two keys, as a person has them.
	both := func(l testpeer.Login) client {
		a, err := os.ReadFile(jump.KnownHosts)
		check(t, err)
		b, err := os.ReadFile(l.KnownHosts)
		check(t, err)
		return newClient(t, known(t, l, string(a)+string(b)))
	}
	via := []string{"-i", jump.Identity, "-J", jump.Target() + ":" + strconv.Itoa(jump.Port)}
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	writeRandom(t, src, 30<<20)
	for name, test := range map[string]struct {
		c         client
		path, got string
	}{
		"to a stock sshd": {both(s.Login), filepath.Join(dir, "up"), filepath.Join(dir, "up")},
		"to a daemon":     {both(d.Login), "/up", filepath.Join(d.Root, "up")},
	} {
		t.Run(name, func(t *testing.T) {
			back := filepath.Join(t.TempDir(), "back")
			test.c.copy(t, append(via, src, test.c.remote(test.path))...)
			sameFile(t, test.got, src)
			test.c.copy(t, append(via, test.c.remote(test.path), back)...)
			sameFile(t, back, src)
			// By ~/.ssh/config alone.
			config := filepath.Join(test.c.home, ".ssh", "config")
			check(t, os.MkdirAll(filepath.Dir(config), 0o700))
			check(t, os.WriteFile(config, []byte("Host hop\n\tHostName "+jump.Host+"\n\tPort "+strconv.Itoa(jump.Port)+"\n\tUser "+jump.User+
				"\n\tIdentityFile "+jump.Identity+"\nHost far\n\tHostName "+test.c.login.Host+"\n\tUser "+test.c.login.User+"\n\tProxyJump hop\n"), 0o600))
			check(t, os.Remove(back))
			test.c.copy(t, "far:"+test.path, back)
			sameFile(t, back, src)
			// Without the jump host nothing comes through.
			jump.Kill()
			wantOutcome(t, test.c.command(t.Context(), "ls", append(via, test.c.remote(test.path))...), 3, "jump host", "hint: ")
			jump.Restart(t)
		})
	}
}

func TestIPv6Loopback(t *testing.T) {
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp6", "[::1]:0")
	if err != nil {
		if os.Getenv(testpeer.RequireEnv) == "1" {
			t.Fatalf("no IPv6 loopback: %v", err)
		}
		t.Skipf("no IPv6 loopback: %v", err)
	}
	check(t, l.Close())
	d := newDaemon(t)
	d.Host = "::1"
	d.configure(t, []daemonUser{{name: "alice"}}, "")
	d.args = []string{"serve", "--config", d.config()}
	d.start(t)
	t.Cleanup(d.Kill)
	c := newClient(t, d.Login)
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	writeRandom(t, src, 3<<20)
	for i, target := range []string{
		c.remote("/x0"), "ssh://" + d.Target() + ":" + strconv.Itoa(d.Port) + "/x1", "sftp://" + d.Target() + "/x2",
	} {
		name := "x" + strconv.Itoa(i)
		c.copy(t, src, target)
		sameFile(t, filepath.Join(d.Root, name), src)
		c.copy(t, target, filepath.Join(dir, name))
		sameFile(t, filepath.Join(dir, name), src)
	}
	run(t, exec.CommandContext(t.Context(), testpeer.Need(t, "scp"), append(d.Options(), src, d.Target()+":/scp")...))
	sameFile(t, filepath.Join(d.Root, "scp"), src)
	wantOutcome(t, c.command(t.Context(), "ls", "-4", c.remote("/")), 3, "::1", "hint: ")
}
