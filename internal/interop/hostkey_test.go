//go:build unix

package interop

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"transferd/internal/testpeer"
)

// known is a copy of l with a known_hosts of its own, which holds text.
func known(t *testing.T, l testpeer.Login, text string) testpeer.Login {
	t.Helper()
	l.KnownHosts = filepath.Join(t.TempDir(), "known_hosts")
	check(t, os.WriteFile(l.KnownHosts, []byte(text), 0o600))
	return l
}

// knownName is how known_hosts calls the server of l.
func knownName(l testpeer.Login) string { return "[" + l.Host + "]:" + strconv.Itoa(l.Port) }

// fingerprint is what ssh-keygen -l says of a public key.
func fingerprint(t *testing.T, public string) string {
	t.Helper()
	fields := strings.Fields(run(t, exec.CommandContext(t.Context(), testpeer.Need(t, "ssh-keygen"), "-lf", public)))
	if len(fields) < 2 {
		t.Fatalf("ssh-keygen -l of %s says %q", public, fields)
	}
	return fields[1]
}

// publicKey is the two first fields of a public key file.
func publicKey(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	check(t, err)
	fields := strings.Fields(string(text))
	return fields[0] + " " + fields[1]
}

func TestHostKeyThatIsNotTheOne(t *testing.T) {
	d := startDaemon(t)
	check(t, os.WriteFile(filepath.Join(d.Root, "file"), []byte("contents"), 0o644))
	ours := publicKey(t, d.hostKey(t))
	other := publicKey(t, testpeer.Key(t, t.TempDir(), "other", "ed25519")+".pub")
	name, print := knownName(d.Login), fingerprint(t, d.hostKey(t))
	for _, test := range []struct {
		name  string
		known string
		flags []string
		code  int
		says  []string
	}{
		{"unknown, no terminal", "", nil, 4, []string{name, print, "not known", "--host-key-check=ask"}},
		{"unknown, strict", "", []string{"--host-key-check=strict"}, 4, []string{name, print, "Compare", "accept-new"}},
		{"unknown, ask, nobody there", "", []string{"--host-key-check=ask"}, 4, []string{name}},
		{"known for another port", "[127.0.0.1]:1 " + ours, nil, 4, []string{name, print}},
		{"known without the port", "127.0.0.1 " + ours, nil, 4, []string{name, print, "known by other names", ":1: 127.0.0.1"}},
		{"changed", name + " " + other, nil, 4, []string{
			"HAS CHANGED", print, "Compare", "ssh-keygen -R '" + name + "' -f '", "known_hosts",
		}},
		{"changed, accept-new", name + " " + other, []string{"--host-key-check=accept-new"}, 4, []string{"HAS CHANGED", print}},
		{"changed, off", name + " " + other, []string{"--host-key-check=off"}, 0, []string{"WARNING", "HAS CHANGED"}},
		{"revoked", "@revoked * " + ours + "\n" + name + " " + ours, nil, 4, []string{"revoke", print}},
		{"revoked, off", "@revoked * " + ours, []string{"--host-key-check=off"}, 4, []string{"revoke", print}},
		{"pattern", "[127.0.*]:* " + ours, nil, 0, nil},
		{"pattern that excludes it", "![127.0.0.1]:*,[127.0.*]:* " + ours, nil, 4, []string{name}},
		{"garbage", "\x00\xff garbage\nnot base64 ssh-ed25519 ???\n" + name + " " + ours, nil, 0, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := known(t, d.Login, test.known+"\n")
			c := newClient(t, l)
			o := wantOutcome(t, c.command(t.Context(), "cat", append(test.flags, c.remote("/file"))...), test.code, test.says...)
			if test.code == 0 && o.stdout != "contents" || test.code != 0 && o.stdout != "" {
				t.Errorf("cat printed %q", o.stdout)
			}
			after, err := os.ReadFile(l.KnownHosts)
			check(t, err)
			if string(after) != test.known+"\n" {
				t.Errorf("known_hosts has changed to\n%s", after)
			}
		})
	}
}

// The way out that the message names must work.
func TestChangedHostKeyIsForgottenAsTold(t *testing.T) {
	d := startDaemon(t)
	other := publicKey(t, testpeer.Key(t, t.TempDir(), "other", "ed25519")+".pub")
	l := known(t, d.Login, knownName(d.Login)+" "+other+"\n")
	c := newClient(t, l)
	o := wantOutcome(t, c.command(t.Context(), "ls", c.remote("/")), 4)
	_, told, ok := strings.Cut(o.stderr, "forget the old one with: ")
	if !ok {
		t.Fatal("the message names no command")
	}
	command, _, _ := strings.Cut(told, "\n")
	testpeer.Need(t, "ssh-keygen")
	run(t, exec.CommandContext(t.Context(), "sh", "-c", command))
	wantOutcome(t, c.command(t.Context(), "ls", "--host-key-check=accept-new", c.remote("/")), 0)
	wantOutcome(t, c.command(t.Context(), "ls", "--host-key-check=strict", c.remote("/")), 0)
}

func TestAcceptNewWritesWhatSSHReads(t *testing.T) {
	ssh, keygen := testpeer.Need(t, "ssh"), testpeer.Need(t, "ssh-keygen")
	s := testpeer.StartSSHD(t, testpeer.SSHDOptions{})
	for _, hash := range []string{"no", "yes"} {
		t.Run("HashKnownHosts="+hash, func(t *testing.T) {
			l := known(t, s.Login, "")
			l.KnownHosts = filepath.Join(t.TempDir(), "made", "known_hosts")
			c := newClient(t, l)
			o := wantOutcome(t, c.command(t.Context(), "ls", "--host-key-check=accept-new", "-o", "HashKnownHosts="+hash, c.remote("/")), 0, "Permanently added", knownName(l))
			text, err := os.ReadFile(l.KnownHosts)
			if err != nil {
				t.Fatalf("%v\n%s", err, o.stderr)
			}
			if strings.Contains(string(text), l.Host) == (hash == "yes") {
				t.Errorf("known_hosts with HashKnownHosts=%s:\n%s", hash, text)
			}
			info, err := os.Stat(l.KnownHosts)
			check(t, err)
			if info.Mode().Perm()&0o022 != 0 {
				t.Errorf("known_hosts has mode %v", info.Mode())
			}
			found := run(t, exec.CommandContext(t.Context(), keygen, "-F", knownName(l), "-f", l.KnownHosts))
			if !strings.Contains(found, publicKey(t, s.HostKey+".pub")) {
				t.Errorf("ssh-keygen -F found %q", found)
			}
			run(t, exec.CommandContext(t.Context(), ssh, append(l.Options(), l.Target(), "true")...))
			// And the same the other way round: nothing is added a second time.
			wantOutcome(t, c.command(t.Context(), "ls", "--host-key-check=accept-new", c.remote("/")), 0)
			again, err := os.ReadFile(l.KnownHosts)
			check(t, err)
			if string(again) != string(text) {
				t.Errorf("known_hosts became\n%s", again)
			}
		})
	}
}

func TestWrongUserKey(t *testing.T) {
	d := startDaemon(t)
	wrong := testpeer.Key(t, t.TempDir(), "wrong", "ed25519")
	broken := filepath.Join(t.TempDir(), "broken")
	check(t, os.WriteFile(broken, []byte("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"), 0o600))
	for _, test := range []struct {
		name, identity, user string
		says                 []string
	}{
		{"wrong key", wrong, d.User, []string{d.User, d.Host, "hint: "}},
		{"wrong name", d.Identity, "nobody-of-this-name", []string{"nobody-of-this-name", "hint: "}},
		{"no such file", filepath.Join(t.TempDir(), "absent"), d.User, []string{"absent"}},
		{"broken file", broken, d.User, []string{"broken"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := d.as(test.user)
			l.Identity = test.identity
			c := newClient(t, l)
			wantOutcome(t, c.command(t.Context(), "ls", c.remote("/")), 4, test.says...)
		})
	}
}

// closedPort is a port on which nothing listens: it is held without listening.
func closedPort(t *testing.T) int {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	check(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	check(t, l.Close())
	return port
}

func TestNoServer(t *testing.T) {
	dir := t.TempDir()
	l := testpeer.Login{
		Host: "127.0.0.1", Port: closedPort(t), User: "alice",
		Identity: testpeer.Key(t, dir, "id", "ed25519"), KnownHosts: filepath.Join(dir, "known_hosts"),
	}
	c := newClient(t, l)
	src := filepath.Join(dir, "id.pub")
	for _, test := range []struct {
		name string
		code int
		args []string
		says []string
	}{
		{"nobody listens", 3, []string{"copy", src, c.remote("/x")}, []string{"connection refused", l.Addr(), "hint: ", "2022"}},
		{"nobody listens, from there", 3, []string{"copy", c.remote("/x"), dir}, []string{"connection refused", "hint: "}},
		{"url", 3, []string{"ls", "ssh://" + l.Target() + ":" + strconv.Itoa(l.Port) + "/x"}, []string{"connection refused", "hint: "}},
		{"no such host", 3, []string{"ls", "no-such-host.invalid:/x"}, []string{"no-such-host.invalid", "hint: "}},
		{"tcp", 3, []string{"ls", "tcp://127.0.0.1/x"}, []string{"connection refused", "hint: ", "2022", "2023"}},
		{"tcp, copying", 3, []string{"copy", src, "tcp://" + l.Addr() + "/x"}, []string{"connection refused", l.Addr(), "2023"}},
		{"transport tcp", 3, []string{"ls", "--transport=tcp", c.remote("/x")}, []string{"connection refused", "hint: "}},
		{"a transport that the target rules out", 2, []string{"ls", "--transport=tcp", "ssh://127.0.0.1/x"}, []string{"tcp", "ssh://"}},
		{"and the other way round", 2, []string{"ls", "--transport=sftp", "tcp://127.0.0.1/x"}, []string{"sftp", "tcp://"}},
		{"unknown scheme", 2, []string{"ls", "http://127.0.0.1/x"}, []string{"http", "ssh://"}},
		{"bad port", 2, []string{"ls", "ssh://127.0.0.1:70000/x"}, []string{"70000"}},
		{"no host", 2, []string{"ls", "ssh:///x"}, []string{"host"}},
		{"a colon first is a local name", 5, []string{"ls", ":/x"}, []string{":/x", "hint: "}},
	} {
		t.Run(test.name, func(t *testing.T) {
			wantOutcome(t, c.command(t.Context(), test.args[0], test.args[1:]...), test.code, test.says...)
		})
	}
}
