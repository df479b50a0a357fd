package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A place is a home with a root to serve and a keys file outside it.
type place struct{ home, root, keys string }

// newPlace makes a place, and hides what the environment says from the test.
func newPlace(t *testing.T) place {
	t.Helper()
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "TRANSFER") {
			t.Setenv(name, "")
		}
	}
	home, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("XDG_STATE_HOME", "")
	p := place{home, filepath.Join(home, "root"), filepath.Join(home, "keys")}
	if err := os.Mkdir(p.root, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, p.keys, "")
	return p
}

// fill replaces $ROOT, $KEYS and $HOME in text.
func (p place) fill(text string) string {
	return strings.NewReplacer("$ROOT", p.root, "$KEYS", p.keys, "$HOME", p.home).Replace(text)
}

// file writes text, filled, to a file of this name and returns its path.
func (p place) file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(p.home, name)
	write(t, path, p.fill(text))
	return path
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// oneUser is the users list of a file that has nothing wrong.
const oneUser = "users: [{name: alice, root: $ROOT, authorized_keys_file: $KEYS}]\n"

func TestServerDefaults(t *testing.T) {
	p := newPlace(t)
	got, err := LoadServer("", ServerFlags{Root: p.root, AuthorizedKeys: p.keys, StateDir: "/s"})
	if err != nil {
		t.Fatal(err)
	}
	name, err := account()
	if err != nil {
		t.Fatal(err)
	}
	want := Server{
		SSH:      SSH{Listen: []string{":2022"}},
		TCP:      TCP{Listen: []string{":2023"}, Implied: true},
		StateDir: "/s",
		Users: []User{{
			Name: name, Root: p.root, AuthorizedKeysFile: p.keys,
			Permissions: []string{"list", "read", "write", "delete"},
		}},
		Limits:   Limits{256, 20, 1024, 20 * time.Second, 10 * time.Minute},
		Partials: Partials{7 * 24 * time.Hour},
		Log:      Log{"info", "text"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("LoadServer with --root alone (-want +got):\n%s", d)
	}
}

// TestServerFormats loads the same from each format.
func TestServerFormats(t *testing.T) {
	p := newPlace(t)
	key := filepath.Join(p.home, "host_key")
	write(t, key, "")
	files := map[string]string{
		"c.yaml": `
ssh: {listen: ["127.0.0.1:0", "[::1]:2022"], host_keys: [$HOME/host_key]}
state_dir: ~/state
users:
  - name: Alice
    root: root
    authorized_keys_file: $KEYS
    permissions: [list, read]
  - {name: bob.smith, root: $ROOT, authorized_keys: ["ssh-ed25519 AAAA bob, his key"]}
limits: {connections: 3, per_source: 0, handshakes: 5, handshake_timeout: 1m30s, idle_timeout: 0}
partials: {max_age: 2d}
log: {level: debug, format: json}
`,
		"c.toml": `
state_dir = "~/state"
[ssh]
listen = ["127.0.0.1:0", "[::1]:2022"]
host_keys = ["$HOME/host_key"]
[[users]]
name = "Alice"
root = "root"
authorized_keys_file = "$KEYS"
permissions = ["list", "read"]
[[users]]
name = "bob.smith"
root = "$ROOT"
authorized_keys = ["ssh-ed25519 AAAA bob, his key"]
[limits]
connections = 3
per_source = 0
handshakes = 5
handshake_timeout = "1m30s"
idle_timeout = 0
[partials]
max_age = "2d"
[log]
level = "debug"
format = "json"
`,
		"c.json": `{
	"ssh": {"listen": ["127.0.0.1:0", "[::1]:2022"], "host_keys": ["$HOME/host_key"]},
	"state_dir": "~/state",
	"users": [
		{"name": "Alice", "root": "root", "authorized_keys_file": "$KEYS", "permissions": ["list", "read"]},
		{"name": "bob.smith", "root": "$ROOT", "authorized_keys": ["ssh-ed25519 AAAA bob, his key"]}
	],
	"limits": {"connections": 3, "per_source": 0, "handshakes": 5, "handshake_timeout": "1m30s", "idle_timeout": 0},
	"partials": {"max_age": "2d"},
	"log": {"level": "debug", "format": "json"}
}`,
	}
	want := Server{
		SSH:      SSH{Listen: []string{"127.0.0.1:0", "[::1]:2022"}, HostKeys: []string{key}},
		TCP:      TCP{Listen: []string{"127.0.0.1:0", "[::1]:2023"}, Implied: true},
		StateDir: filepath.Join(p.home, "state"),
		Users: []User{
			{Name: "Alice", Root: p.root, AuthorizedKeysFile: p.keys, Permissions: []string{"list", "read"}},
			{
				Name: "bob.smith", Root: p.root, AuthorizedKeys: []string{"ssh-ed25519 AAAA bob, his key"},
				Permissions: []string{"list", "read", "write", "delete"},
			},
		},
		Limits:   Limits{3, 0, 5, 90 * time.Second, 0},
		Partials: Partials{48 * time.Hour},
		Log:      Log{"debug", "json"},
	}
	for name, text := range files {
		t.Run(name, func(t *testing.T) {
			got, err := LoadServer(p.file(t, name, text), ServerFlags{})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("LoadServer(%s) (-want +got):\n%s", name, d)
			}
		})
	}
}

// TestPrecedence takes each step of flags > environment > file > defaults.
func TestPrecedence(t *testing.T) {
	p := newPlace(t)
	path := p.file(t, "c.yaml", oneUser+"ssh: {listen: [\":3\"]}\nstate_dir: /file\nlimits: {idle_timeout: 3m}\n")
	flags := ServerFlags{SSHListen: []string{":1", ":11"}, StateDir: "/flag"}
	type got struct {
		listen []string
		state  string
		idle   time.Duration
	}
	for _, test := range []struct {
		name  string
		path  string
		env   bool
		flags ServerFlags
		want  got
	}{
		{"default", p.file(t, "d.yaml", oneUser+"state_dir: /d"), false, ServerFlags{}, got{[]string{":2022"}, "/d", 10 * time.Minute}},
		{"file", path, false, ServerFlags{}, got{[]string{":3"}, "/file", 3 * time.Minute}},
		{"environment", path, true, ServerFlags{}, got{[]string{":2", "[::1]:22"}, "/env", 2 * 24 * time.Hour}},
		{"flag", path, true, flags, got{[]string{":1", ":11"}, "/flag", 2 * 24 * time.Hour}},
		{"flag without environment", path, false, flags, got{[]string{":1", ":11"}, "/flag", 3 * time.Minute}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.env {
				t.Setenv("TRANSFERD_SSH_LISTEN", ":2, [::1]:22")
				t.Setenv("TRANSFERD_STATE_DIR", "/env")
				t.Setenv("TRANSFERD_LIMITS_IDLE_TIMEOUT", "2d")
			}
			s, err := LoadServer(test.path, test.flags)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(test.want, got{s.SSH.Listen, s.StateDir, s.Limits.IdleTimeout}, cmp.AllowUnexported(got{})); d != "" {
				t.Errorf("LoadServer (-want +got):\n%s", d)
			}
		})
	}
}

// TestWhereTCPListens: who names addresses for SSH alone gets no port elsewhere.
func TestWhereTCPListens(t *testing.T) {
	p := newPlace(t)
	file := p.file(t, "c.yaml", oneUser+"state_dir: /d")
	for _, test := range []struct {
		name     string
		ssh, tcp []string
		env      string
		want     TCP
	}{
		{"nothing is said", nil, nil, "", TCP{[]string{":2023"}, true}},
		{"as SSH", []string{"127.0.0.1:22", "[::1]:22", "127.0.0.1:23"}, nil, "", TCP{[]string{"127.0.0.1:2023", "[::1]:2023"}, true}},
		{"free ports", []string{"127.0.0.1:0", "127.0.0.1:0"}, nil, "", TCP{[]string{"127.0.0.1:0", "127.0.0.1:0"}, true}},
		{"flag", []string{":22"}, []string{"10.0.0.1:1"}, ":3", TCP{[]string{"10.0.0.1:1"}, false}},
		{"environment", []string{":22"}, nil, ":3,:4", TCP{[]string{":3", ":4"}, false}},
		{"none", nil, []string{"none"}, "", TCP{[]string{}, false}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.env != "" {
				t.Setenv("TRANSFERD_TCP_LISTEN", test.env)
			}
			s, err := LoadServer(file, ServerFlags{SSHListen: test.ssh, TCPListen: test.tcp})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(test.want, s.TCP); d != "" {
				t.Errorf("tcp (-want +got):\n%s", d)
			}
		})
	}
	for _, test := range []struct{ tcp, want string }{
		{"2023", `--tcp-listen: "2023" has no colon; write ":2023"`},
		{":2022", `":2022" stands there twice`},
	} {
		_, err := LoadServer(file, ServerFlags{SSHListen: []string{":2022"}, TCPListen: []string{test.tcp}})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("--tcp-listen %s: %v", test.tcp, err)
		}
	}
}

// TestServerEnvironmentAlone needs no file and no flags.
func TestServerEnvironmentAlone(t *testing.T) {
	p := newPlace(t)
	t.Setenv("TRANSFERD_ROOT", p.root)
	t.Setenv("TRANSFERD_AUTHORIZED_KEYS", p.keys)
	t.Setenv("TRANSFERD_LIMITS_PER_SOURCE", "0")
	t.Setenv("TRANSFERD_SSH_LISTN", ":1")        // misspelt: a warning
	t.Setenv("TRANSFERD_SOMETHING_ELSE", "ours") // somebody else's
	t.Setenv("TRANSFERD_FOO", "x")               // like nothing
	s, err := LoadServer("", ServerFlags{})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Users) != 1 || s.Users[0].Root != p.root || s.Limits.PerSource != 0 {
		t.Errorf("LoadServer = %+v, want what the variables say", s)
	}
	want := []string{"TRANSFERD_SSH_LISTN is no setting; did you mean TRANSFERD_SSH_LISTEN?"}
	if d := cmp.Diff(want, s.Warnings); d != "" {
		t.Errorf("warnings (-want +got):\n%s", d)
	}
}

// TestServerFaults says for each fault what must be in its line, place first.
func TestServerFaults(t *testing.T) {
	p := newPlace(t)
	write(t, filepath.Join(p.root, "keys"), "")
	for _, test := range []struct {
		name, text string
		want       []string // one line each: prefix | word | word…
	}{
		{"unknown key", oneUser + "log:\n  levl: info", []string{"$HOME/c.yaml:3: log.levl: |did you mean log.level?"}},
		{"unknown section", oneUser + "udp: {listen: [\":2023\"]}", []string{"$HOME/c.yaml:2: udp: |unknown key; the keys are ssh, tcp, state_dir, users"}},
		{"unknown empty section", oneUser + "metrics:", []string{"$HOME/c.yaml:2: metrics: |unknown key"}},
		{"key of another section", oneUser + "idle_timeout: 1m", []string{"c.yaml:2: idle_timeout: |did you mean limits.idle_timeout?"}},
		{"dotted key", oneUser + "ssh.listen: [\":1\"]", []string{"c.yaml:2: ssh.listen: |unknown key"}},
		{"upper case key", oneUser + "SSH: {}", []string{"c.yaml:2: SSH: |did you mean ssh?"}},
		{"only the misspelling", "users: [{name: a, rot: $ROOT, authorized_keys_file: $KEYS}]", []string{"users[0].rot: |did you mean users[0].root?"}},
		{"later key of a user", "users: [{name: a, root: $ROOT, authorized_keys_file: $KEYS, shell: true}]", []string{"users[0].shell: |unknown key"}},
		{"duration without unit", oneUser + "limits: {idle_timeout: 10}", []string{"c.yaml:2: limits.idle_timeout: |\"10\" has no unit; write 10s"}},
		{"duration in float", oneUser + "limits: {idle_timeout: 1.5}", []string{"limits.idle_timeout: |\"1.5\" has no unit"}},
		{"quoted number", oneUser + "limits: {connections: \"10\"}", []string{"limits.connections: |text|without quotes: 10"}},
		{"boolean as number", oneUser + "limits: {connections: true}", []string{"limits.connections: |a boolean (true) found, a whole number is wanted"}},
		{"fraction", oneUser + "limits: {connections: 1.5}", []string{"limits.connections: |a number (1.5) found"}},
		{"number as text", oneUser + "log: {level: 1}", []string{"log.level: |text is wanted; write it in quotes: \"1\""}},
		{"text as list", oneUser + "ssh: {listen: \":2022\"}", []string{"ssh.listen: |a list is wanted; write it like [\":2022\"]"}},
		{"number in list", oneUser + "ssh: {listen: [\":1\", 2022]}", []string{"ssh.listen[1]: |write it in quotes: \"2022\""}},
		{"list as section", oneUser + "log: [info]", []string{"log: |a list found, a section with keys of its own is wanted"}},
		{"users as map", "users: {alice: {root: $ROOT}}", []string{"users: |a section found, a list of sections is wanted"}},
		{"key that is no text", oneUser + "log: {1: 2}", []string{"log: |the key 1 is not text"}},
		{"negative", oneUser + "limits: {connections: -1, idle_timeout: -1s}", []string{"limits.idle_timeout: |negative", "limits.connections: |negative; write 0 for no limit"}},
		{"flag in file", oneUser + "root: $ROOT", []string{"c.yaml:2: root: |a flag, not a key of the file"}},
		{"addresses", oneUser + `ssh: {listen: ["2022", "::1", "a b:1", "h:ssh", ":70000", ":1", ":1", ":0", ":0"]}`, []string{
			`ssh.listen[0]: |write ":2022"`, `ssh.listen[1]: |write "[::1]:2022"`, `ssh.listen[2]: |"a b:1" is no address`,
			`ssh.listen[3]: |the port is not a number`, `ssh.listen[4]: |from 0 to 65535`, `ssh.listen[6]: |twice`,
		}},
		{"no addresses", oneUser + "ssh: {listen: []}", []string{"ssh.listen: |no address"}},
		{"host key", oneUser + "ssh: {host_keys: [$HOME/none]}", []string{"ssh.host_keys[0]: |$HOME/none|no such file"}},
		{"state directory", oneUser + "state_dir: $KEYS", []string{"state_dir: |$KEYS is no directory"}},
		{"choices", oneUser + "log: {level: warning, format: xml}", []string{"log.level: |debug, info, warn or error", "log.format: |text or json"}},
		{"no root", "users: [{name: a, authorized_keys_file: $KEYS}]", []string{"c.yaml:1: users[0].root: |missing"}},
		{"root missing", "users: [{name: a, root: $HOME/none, authorized_keys_file: $KEYS}]", []string{"users[0].root: |$HOME/none: no such file|make it first"}},
		{"root is a file", "users: [{name: a, root: $KEYS, authorized_keys_file: $KEYS}]", []string{"users[0].root: |no directory"}},
		{"names", "users: [{root: $ROOT, authorized_keys_file: $KEYS}, {name: \"a b\", root: $ROOT, authorized_keys_file: $KEYS}]", []string{"users[0].name: |needs one", "users[1].name: |\"a b\" has a space"}},
		{"same name", "users:\n- {name: a, root: $ROOT, authorized_keys_file: $KEYS}\n- {name: a, root: $ROOT, authorized_keys_file: $KEYS}", []string{"c.yaml:3: users[1].name: |\"a\" is users[0] already"}},
		{"both keys", "users: [{name: a, root: $ROOT, authorized_keys_file: $KEYS, authorized_keys: [k]}]", []string{"users[0].authorized_keys_file: |beside authorized_keys"}},
		{"no keys", "users: [{name: a, root: $ROOT}]", []string{"users[0].authorized_keys_file: |no key to log in with"}},
		{"keys file missing", "users: [{name: a, root: $ROOT, authorized_keys_file: $HOME/none}]", []string{"users[0].authorized_keys_file: |$HOME/none: no such file"}},
		{"keys below root", "users: [{name: a, root: $ROOT, authorized_keys_file: $ROOT/keys}]", []string{"users[0].authorized_keys_file: |outside that root|--shell"}},
		{"permissions", "users: [{name: a, root: $ROOT, authorized_keys_file: $KEYS, permissions: [raed]}, {name: b, root: $ROOT, authorized_keys_file: $KEYS, permissions: []}]", []string{"users[0].permissions[0]: |did you mean \"read\"", "users[1].permissions: |none are left"}},
		{
			"several at once", "ssh: {lisen: [\":1\"]}\nusers: [{name: a, root: $ROOT}]\nlimits:\n  idle_timeout: 10\n  connections: many\nlog: {level: loud}",
			[]string{"c.yaml:1: ssh.lisen|", "c.yaml:2: users[0].authorized_keys_file|", "c.yaml:4: limits.idle_timeout|", "c.yaml:5: limits.connections|", "c.yaml:6: log.level|"},
		},
		{"no yaml", "users: [", []string{"$HOME/c.yaml: |no valid YAML|mend that first"}},
		{"no keys at all", "just text", []string{"c.yaml: |keys with values are wanted"}},
		{"duplicate key", "log: {}\nlog: {}", []string{"c.yaml: |already defined at line 1"}},
		{"two documents", oneUser + "---\n" + oneUser, []string{"c.yaml: |a second document"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := LoadServer(p.file(t, "c.yaml", test.text), ServerFlags{StateDir: ""})
			checkFaults(t, err, p, test.want)
		})
	}
}

// checkFaults compares the lines of err with want, in which "|" parts what must
// follow each other.
func checkFaults(t *testing.T, err error, p place, want []string) {
	t.Helper()
	faults, ok := errors.AsType[Faults](err)
	if !ok || len(faults) != len(want) {
		t.Fatalf("got %d faults:\n%v\nwant %d: %q", len(faults), err, len(want), want)
	}
	for i, line := range strings.Split(err.Error(), "\n") {
		rest := line
		for part := range strings.SplitSeq(p.fill(want[i]), "|") {
			_, after, found := strings.Cut(rest, part)
			if !found {
				t.Errorf("fault %q, want it to have %q", line, part)
			}
			rest = after
		}
	}
}

func TestServerFaultsOfFlags(t *testing.T) {
	p := newPlace(t)
	below := filepath.Join(p.root, "keys")
	write(t, below, "")
	file := p.file(t, "c.yaml", oneUser)
	empty := p.file(t, "empty.yaml", "")
	for _, test := range []struct {
		name  string
		path  string
		flags ServerFlags
		env   map[string]string
		want  []string
	}{
		{"nothing", "", ServerFlags{}, nil, []string{"users: |nobody could log in; give --root DIR --authorized-keys FILE"}},
		{"root beside users", file, ServerFlags{Root: p.root, AuthorizedKeys: p.keys}, nil, []string{"--root: |beside the users: list", "--authorized-keys: |beside"}},
		{"root beside users, by variable", file, ServerFlags{}, map[string]string{"TRANSFERD_ROOT": p.root}, []string{"TRANSFERD_ROOT: root: |beside the users: list"}},
		{"root alone", empty, ServerFlags{Root: p.root}, nil, []string{"--root: |needs --authorized-keys"}},
		{"keys alone", "", ServerFlags{AuthorizedKeys: p.keys}, nil, []string{"--authorized-keys: |needs --root"}},
		{"root missing", "", ServerFlags{Root: p.root + "x", AuthorizedKeys: p.keys}, nil, []string{"--root: |no such file"}},
		{"keys missing", "", ServerFlags{Root: p.root, AuthorizedKeys: p.keys + "x"}, nil, []string{"--authorized-keys: |no such file"}},
		{"keys below root", "", ServerFlags{Root: p.root, AuthorizedKeys: below}, nil, []string{"--authorized-keys: |" + below + " lies below " + p.root + "|outside that root|--shell"}},
		{"bad address", file, ServerFlags{SSHListen: []string{"2022"}}, nil, []string{`--ssh-listen: |write ":2022"`}},
		{"bad number in variable", file, ServerFlags{}, map[string]string{"TRANSFERD_LIMITS_CONNECTIONS": "many"}, []string{`TRANSFERD_LIMITS_CONNECTIONS: limits.connections: |"many" is no whole number`}},
		{"no unit in variable", file, ServerFlags{}, map[string]string{"TRANSFERD_PARTIALS_MAX_AGE": "7"}, []string{`TRANSFERD_PARTIALS_MAX_AGE: partials.max_age: |no unit`}},
		{"no such file", p.home + "/none.yaml", ServerFlags{}, nil, []string{"$HOME/none.yaml: |no such file|--config or TRANSFERD_CONFIG|'transferd init'"}},
		{"a directory", p.home, ServerFlags{}, nil, []string{"$HOME: |is a directory"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			_, err := LoadServer(test.path, test.flags)
			checkFaults(t, err, p, test.want)
		})
	}
}

func TestServerWarnings(t *testing.T) {
	p := newPlace(t)
	t.Setenv("TRANSFERD_USERS", "alice")
	s, err := LoadServer(p.file(t, "c.yaml", "users: []\nlog:\nssh:\n"), ServerFlags{StateDir: "/s"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"TRANSFERD_USERS is ignored: users can only be set in a file", "users: there are none, nobody can log in"}
	if d := cmp.Diff(want, s.Warnings); d != "" {
		t.Errorf("warnings (-want +got):\n%s", d)
	}
	s, err = LoadServer(p.file(t, "d.yaml", oneUser), ServerFlags{StateDir: p.root})
	if err != nil || len(s.Warnings) != 2 || !strings.Contains(s.Warnings[1], "below the root of alice") {
		t.Errorf("LoadServer = %q, %v, want a warning of the state directory", s.Warnings, err)
	}

	key := p.root + "/host_key"
	if err := os.WriteFile(key, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	inRoot := filepath.Join(p.root, "e.yaml")
	for permissions, want := range map[string]int{"[list, read]": 1, "[list, write]": 2} {
		text := "ssh: {host_keys: [" + key + "]}\nusers: [{name: alice, root: " + p.root + ", authorized_keys: [k], permissions: " + permissions + "}]\n"
		if err := os.WriteFile(inRoot, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := LoadServer(inRoot, ServerFlags{StateDir: "/s"})
		if err != nil || len(s.Warnings)-1 != want || !strings.Contains(s.Warnings[1], "host key") || want == 2 && !strings.Contains(s.Warnings[2], "let in anyone") {
			t.Errorf("%s: LoadServer = %q, %v, want warnings of the host key and of the file", permissions, s.Warnings, err)
		}
	}
}
