//go:build linux

package interop

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"transferd/internal/testpeer"
)

// What people who see the programs for the first time do wrong: every message
// names the thing, and what to do.
func TestDaemonSaysWhatIsWrong(t *testing.T) {
	home := t.TempDir()
	root, keys, config := filepath.Join(home, "root"), filepath.Join(home, "keys"), filepath.Join(home, "c.yaml")
	check(t, os.MkdirAll(filepath.Join(root, "below"), 0o755))
	check(t, os.WriteFile(keys, []byte(publicKey(t, testpeer.Key(t, home, "id", "ed25519")+".pub")+"\n"), 0o600))
	check(t, os.WriteFile(filepath.Join(root, "keys"), nil, 0o600))
	taken := dialTCP(t, startDaemon(t).Login).RemoteAddr().String()
	serve := []string{"serve", "--root", root, "--authorized-keys", keys, "--ssh-listen", "127.0.0.1:0", "--state-dir", filepath.Join(home, "state")}
	and := func(more ...string) []string { return append(append([]string{}, serve...), more...) }
	for _, test := range []struct {
		name   string
		config string // written to the file that --config names, "" for none
		args   []string
		code   int
		says   []string
	}{
		{"nothing", "", []string{"serve"}, 2, []string{"--root DIR", "--authorized-keys FILE", "transferd init"}},
		{"no keys", "", []string{"serve", "--root", root}, 2, []string{"--authorized-keys"}},
		{"no root", "", []string{"serve", "--authorized-keys", keys}, 2, []string{"--root"}},
		{"absent root", "", []string{"serve", "--root", "/does/not/exist", "--authorized-keys", keys}, 2, []string{"/does/not/exist", "make it"}},
		{"root is a file", "", []string{"serve", "--root", keys, "--authorized-keys", keys}, 2, []string{keys, "no directory"}},
		{"keys in the root", "", []string{"serve", "--root", root, "--authorized-keys", filepath.Join(root, "keys")}, 2, []string{"could let in anyone", "--shell", "another place"}},
		{"unknown flag", "", and("--udp-listen", ":2023"), 2, []string{"--udp-listen", "serve --help"}},
		{"shell", "", and("--shell"), 2, []string{"--shell"}},
		{"misspelt command", "", []string{"serv"}, 2, []string{"serv", "transferd serve"}},
		{"misspelt address", "", and("--ssh-listen", "2022"), 2, []string{"2022", `":2022"`}},
		{"address in use", "", and("--ssh-listen", taken), 1, []string{taken, "in use", "--ssh-listen"}},
		{"absent file", "", []string{"check", "--config", filepath.Join(home, "absent.yaml")}, 2, []string{"absent.yaml"}},
		{"unknown section", "udp: {listen: [\":2023\"]}\nusers: []\n", []string{"serve"}, 2, []string{"c.yaml:1", "udp", "tcp"}},
		{"one port for both", "", and("--tcp-listen", "127.0.0.1:2022", "--ssh-listen", "127.0.0.1:2022"), 2, []string{"--tcp-listen", "twice"}},
		{"no YAML", "users: [\n", []string{"check"}, 2, []string{"c.yaml", "YAML"}},
		{"a map of users", "users: {alice: {root: /srv}}\n", []string{"check"}, 2, []string{"users", "list", "name:"}},
		{"no unit", "users: []\nlimits: {idle_timeout: 10}\n", []string{"check"}, 2, []string{"c.yaml:2", "limits.idle_timeout", "10s"}},
		{"many at once", "usres: []\nlog: {level: loud}\nlimits: {connections: -1}\n", []string{"check"}, 2, []string{
			"did you mean users", "log.level", "debug, info", "limits.connections", "3 faults",
		}},
		{"root beside users", "users: [{name: a, root: " + root + ", authorized_keys_file: " + keys + "}]\n", []string{"serve", "--root", root}, 2, []string{"--root", "users:"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.config != "" {
				check(t, os.WriteFile(config, []byte(test.config), 0o600))
				test.args = append(test.args, "--config", config)
			}
			o := wantOutcome(t, transferd(t.Context(), home, test.args...), test.code, test.says...)
			if o.stdout != "" {
				t.Errorf("it printed %q", o.stdout)
			}
		})
	}
}

func TestClientSaysWhatIsWrong(t *testing.T) {
	d := startDaemon(t)
	c := newClient(t, d.Login)
	dir := t.TempDir()
	file, config := filepath.Join(dir, "file"), filepath.Join(dir, "config.yaml")
	writeRandom(t, file, 10)
	check(t, os.WriteFile(filepath.Join(d.Root, "file"), []byte("x"), 0o600))
	up := func(flags ...string) []string {
		return append(append([]string{"copy"}, flags...), file, c.remote("/new"))
	}
	for _, test := range []struct {
		name string
		code int
		args []string
		says []string
	}{
		{"no target", 2, []string{"copy", file}, []string{"target", "hint: "}},
		{"no -r", 2, []string{"copy", dir, c.remote("/")}, []string{dir, "hint: ", "-r"}},
		{"absent file", 5, []string{"copy", file + "x", c.remote("/")}, []string{file + "x", "hint: "}},
		{"absent there", 5, []string{"copy", c.remote("/absent"), dir}, []string{c.remote("/absent"), "hint: "}},
		{"absent directory", 5, []string{"copy", file, c.remote("/absent/x")}, []string{"/absent/x", "hint: "}},
		{"several to a file", 5, []string{"copy", file, file, c.remote("/file")}, []string{"/file", "directory", "hint: "}},
		{"beyond the root", 5, []string{"copy", c.remote("../../etc/passwd"), dir}, []string{"/etc/passwd", "hint: "}},
		{"the daemon's flag", 2, up("--tcp-listen", ":1"), []string{"--tcp-listen", "hint: "}},
		{"rate without a unit", 2, up("--bwlimit", "10"), []string{"--bwlimit", "10MiB"}},
		{"time without a unit", 2, up("--timeout", "5"), []string{"--timeout", "5s"}},
		{"port", 2, up("-P", "abc"), []string{"port", "abc"}},
		{"4 and 6", 2, up("-4", "-6"), []string{"-4 and -6"}},
		{"word", 2, up("--verify", "maybe"), []string{"fast or full"}},
		{"option", 2, up("-o", "NoSuchOption=1"), []string{"NoSuchOption", "ServerAliveInterval"}},
		{"option without a value", 2, up("-o", "x"), []string{"KEY=VALUE"}},
		{"scp's -S", 2, up("-S", "ssh"), []string{"-S is not a flag", "-J"}},
		{"absent ssh_config", 2, up("-F", dir+"/absent"), []string{dir + "/absent", "none"}},
		{"ssh_config is a directory", 2, up("-F", dir), []string{dir, "none"}},
		{"absent jump host", 3, up("-J", "no-such-host.invalid"), []string{"jump host", "no-such-host.invalid", "hint: "}},
		{"IPv6 without brackets", 2, []string{"ls", "ssh://::1/x"}, []string{"//[::1]/path"}},
		{"password in a target", 2, []string{"ls", "ssh://a:secret@127.0.0.1/"}, []string{"password"}},
		{"json to stdout", 2, []string{"copy", "--json", c.remote("/file"), "-"}, []string{"--json", "hint: "}},
		{"rm of the root", 2, []string{"rm", "-r", c.remote("/")}, []string{"never removed"}},
		{"config", 2, up("--config", config), []string{"config.yaml:1", "did you mean hosts", "hosts[0].port", "hosts[0].tcp_port"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			check(t, os.WriteFile(config, []byte("host: []\nhosts: [{name: a, port: 99999, tcp_port: 0}]\n"), 0o600))
			wantOutcome(t, c.command(t.Context(), test.args[0], test.args[1:]...), test.code, test.says...)
		})
	}
	t.Run("every address family", func(t *testing.T) {
		wantOutcome(t, c.command(t.Context(), "ls", "-4", "ssh://"+d.Target()+":"+strconv.Itoa(d.Port)+"/"), 0)
	})
}
