package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestClientDefaults(t *testing.T) {
	p := newPlace(t)
	got, err := LoadClient("", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Client{
		Retries: 5, Verify: "fast", Fsync: "auto", Overwrite: "always", Sparse: "auto", Compress: "auto", Progress: "auto",
		StateDir: filepath.Join(p.home, ".local/state/transfer"),
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("LoadClient (-want +got):\n%s", d)
	}
}

func TestClientPrecedence(t *testing.T) {
	p := newPlace(t)
	path := p.file(t, "c.yaml", `
bwlimit: 3MiB
streams: 3
timeout: 3s
hosts:
  - name: microscope
    address: 10.0.3.7
    user: lab
    port: 2022
    tcp_port: 2024
    transport: ssh
    remote_command: nice transferd
    identities: [~/.ssh/id_ed25519, rel]
`)
	t.Setenv("TRANSFER_STREAMS", "2")
	t.Setenv("TRANSFER_TIMEOUT", "2m")
	t.Setenv("TRANSFER_USER", "eve")
	t.Setenv("TRANSFER_IDENTITIES", "/a,~/b")
	got, err := LoadClient(path, ClientFlags{"timeout": {"1s"}, "ssh_config": {"none"}, "port": {"1", "11"}, "verify": {"full"}})
	if err != nil {
		t.Fatal(err)
	}
	want := Client{
		BWLimit: 3 << 20, Streams: 2, Timeout: time.Second, SSHConfig: "none",
		Retries: 5, Verify: "full", Fsync: "auto", Overwrite: "always", Sparse: "auto", Compress: "auto", Progress: "auto",
		StateDir: filepath.Join(p.home, ".local/state/transfer"),
		Hosts: []Host{{
			Name: "microscope", Address: "10.0.3.7", User: "lab", Port: 2022, TCPPort: 2024, Transport: "ssh", RemoteCommand: "nice transferd",
			Identities: []string{filepath.Join(p.home, ".ssh/id_ed25519"), filepath.Join(p.home, "rel")},
		}},
		Connection: Connection{User: "eve", Port: 11, Identity: []string{"/a", filepath.Join(p.home, "b")}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("LoadClient (-want +got):\n%s", d)
	}
}

func TestClientFaults(t *testing.T) {
	p := newPlace(t)
	for _, test := range []struct {
		name, text string
		flags      ClientFlags
		env        map[string]string
		want       []string
	}{
		{"rate without unit", "bwlimit: 80", nil, nil, []string{"c.yaml:1: bwlimit: |\"80\" has no unit; write 80MiB"}},
		{"rate in bits", "bwlimit: 80Mb", nil, nil, []string{"bwlimit: |b is bits"}},
		{"rate by flag", "", ClientFlags{"bwlimit": {"80"}}, nil, []string{"--bwlimit: |no unit"}},
		{"rate by variable", "", nil, map[string]string{"TRANSFER_BWLIMIT": "x"}, []string{"TRANSFER_BWLIMIT: bwlimit: |no size"}},
		{"flag of two words", "", ClientFlags{"host_key_check": {"no"}}, nil, []string{"--host-key-check: |strict, accept-new, ask or off"}},
		{"port in file", "port: 22", nil, nil, []string{"port: |belongs to an entry of hosts:"}},
		{"host keys of our protocol", "hosts: [{name: a, tcp_port: 0, remote_command: \"a\\nb\"}]", nil, nil, []string{"hosts[0].tcp_port: |0 is no port", "hosts[0].remote_command: |line end"}},
		{"transport in file", "transport: sftp", nil, nil, []string{"transport: |belongs to an entry of hosts:"}},
		{"transport", "", ClientFlags{"transport": {"udp"}}, nil, []string{"--transport: |\"udp\" is not known|auto, tcp, ssh or sftp"}},
		{"choices", "verify: none\nfsync: on\noverwrite: if\nsparse: yes\nprogress: fancy\ncompress: gzip", nil, nil, []string{"verify: |", "fsync: |", "overwrite: |", "sparse: |", "progress: |", "compress: |"}},
		{"negative", "streams: -1\nretries: -1", nil, nil, []string{"streams: |negative", "retries: |negative"}},
		{"hosts", "hosts:\n- {port: 1}\n- {name: a, port: 0}\n- {name: a, transport: ftp}\n- {name: u@h, address: u@h}", nil, nil, []string{
			"c.yaml:2: hosts[0].name: |needs one", "c.yaml:3: hosts[1].port: |0 is no port", "c.yaml:4: hosts[2].name: |hosts[1] already",
			"hosts[2].transport: |ssh or sftp", "hosts[3].name: |the name alone", "hosts[3].address: |no host name",
		}},
		{"flag port", "", ClientFlags{"port": {"-1"}}, nil, []string{"--port: |-1 is no port"}},
		{"flag port 0", "", ClientFlags{"port": {"0"}}, nil, []string{"--port: |0 is no port|1 to 65535"}},
		{"flag port no number", "", ClientFlags{"port": {"abc"}}, nil, []string{`--port: |"abc" is no port|1 to 65535`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			_, err := LoadClient(p.file(t, "c.yaml", test.text), test.flags)
			checkFaults(t, err, p, test.want)
		})
	}
}

func TestShowClient(t *testing.T) {
	p := newPlace(t)
	path := p.file(t, "c.yaml", "streams: 3\nhosts:\n- {name: a, port: 1}\n")
	t.Setenv("TRANSFER_TIMEOUT", "90s")
	settings, err := ShowClient(path, ClientFlags{"bwlimit": {"1GB"}})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"bwlimit":   `{"key":"bwlimit","value":"1GB","origin":"flag","source":"--bwlimit"}`,
		"timeout":   `{"key":"timeout","value":"1m30s","origin":"env","source":"TRANSFER_TIMEOUT"}`,
		"streams":   `{"key":"streams","value":3,"origin":"file","source":"$HOME/c.yaml:1"}`,
		"hosts":     `{"key":"hosts","value":[{"name":"a","port":1}],"origin":"file","source":"$HOME/c.yaml:2"}`,
		"verify":    `{"key":"verify","value":"fast","origin":"default"}`,
		"identity":  `{"key":"identity","value":[],"origin":"default"}`,
		"state_dir": `{"key":"state_dir","value":"$HOME/.local/state/transfer","origin":"default"}`,
	}
	for _, s := range settings {
		line, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if w, ok := want[s.Key]; ok && string(line) != p.fill(w) {
			t.Errorf("ShowClient has %s, want %s", line, p.fill(w))
		}
		delete(want, s.Key)
	}
	if len(want) > 0 {
		t.Errorf("ShowClient lacks %v", want)
	}
}

func TestTemplates(t *testing.T) {
	p := newPlace(t)
	if _, err := LoadClient(p.file(t, "client.yaml", ClientTemplate()), nil); err != nil {
		t.Errorf("ClientTemplate: %v", err)
	}
	if _, err := LoadServer(p.file(t, "server.yaml", ServerTemplate(Template{})), ServerFlags{}); err != nil {
		t.Errorf("ServerTemplate: %v", err)
	}
	filled := ServerTemplate(Template{
		StateDir: p.home + "/s\"t",
		Users:    []User{{Name: "al:ice", Root: p.root, AuthorizedKeysFile: p.keys}},
	})
	s, err := LoadServer(p.file(t, "filled.yaml", filled), ServerFlags{})
	if err != nil {
		t.Fatalf("ServerTemplate: %v", err)
	}
	if s.StateDir != p.home+"/s\"t" || len(s.Users) != 1 || s.Users[0].Name != "al:ice" {
		t.Errorf("LoadServer = %+v, want what the template was filled with", s)
	}
}

// TestTemplatesShowDefaults takes the comment sign from every key of the
// templates: what they show is the default, and no key is missing.
func TestTemplatesShowDefaults(t *testing.T) {
	p := newPlace(t)
	t.Setenv("HOME", "/nowhere")
	uncomment := func(text string) string {
		var lines []string
		for line := range strings.Lines(text) {
			key, _, isKey := strings.Cut(strings.Replace(line, "# ", "", 1), ":")
			isKey = isKey && !strings.ContainsAny(strings.TrimSpace(key), " #-$~/(") && !strings.Contains(key, "authorized_keys")
			example := strings.Contains("host_keys users hosts known_hosts ssh_config host_key_check state_dir",
				strings.TrimSpace(key)) || strings.HasPrefix(line, "#   ")
			if isKey && !example {
				line = strings.Replace(line, "# ", "", 1)
			}
			lines = append(lines, line)
		}
		return strings.Join(lines, "")
	}
	server, err := LoadServer(p.file(t, "s.yaml", uncomment(ServerTemplate(Template{}))), ServerFlags{})
	if err != nil {
		t.Fatal(err)
	}
	server.Warnings = nil
	defaults := defaultServer()
	defaults.TCP.Listen = []string{":2023"} // as completeTCP makes of the default for SSH
	if d := cmp.Diff(defaults, server, cmp.Transformer("", func(l []User) int { return len(l) })); d != "" {
		t.Errorf("ServerTemplate (-default +shown):\n%s", d)
	}
	client, err := LoadClient(p.file(t, "c.yaml", uncomment(ClientTemplate())), nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(defaultClient(), client, cmp.Transformer("", func(l []Host) int { return len(l) })); d != "" {
		t.Errorf("ClientTemplate (-default +shown):\n%s", d)
	}
}

func TestFind(t *testing.T) {
	p := newPlace(t)
	if got := FindClient(""); got != "" {
		t.Errorf("FindClient = %q in an empty home", got)
	}
	conf := filepath.Join(p.home, ".config/transfer/config.yaml")
	if got, err := ClientFile(); err != nil || got != conf {
		t.Errorf("ClientFile = %q, %v, want %q", got, err, conf)
	}
	for _, dir := range []string{"transfer", "transferd"} {
		if err := os.MkdirAll(filepath.Join(p.home, ".config", dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, conf, "")
	if got := FindClient(""); got != conf {
		t.Errorf("FindClient = %q, want %q", got, conf)
	}
	daemon := filepath.Join(p.home, ".config/transferd/transferd.yaml")
	write(t, daemon, "")
	if got := FindServer(""); got != daemon && got != systemFile {
		t.Errorf("FindServer = %q, want %q", got, daemon)
	}
	wantFile, wantState := daemon, filepath.Join(p.home, ".local/state/transferd")
	if os.Geteuid() == 0 {
		wantFile, wantState = "/etc/transferd/transferd.yaml", "/var/lib/transferd"
	}
	if got, err := ServerFile(); err != nil || got != wantFile {
		t.Errorf("ServerFile = %q, %v, want %q", got, err, wantFile)
	}
	if got := serverStateDir(); got != wantState {
		t.Errorf("serverStateDir = %q, want %q", got, wantState)
	}
	t.Setenv("TRANSFERD_CONFIG", "/env.yaml")
	if got := FindServer(""); got != "/env.yaml" {
		t.Errorf("FindServer = %q, want what the variable says", got)
	}
	if got := FindServer("flag"); got != "flag" {
		t.Errorf("FindServer = %q, want the flag", got)
	}
	t.Setenv("XDG_CONFIG_HOME", "relative/is/ignored")
	if got, err := ClientFile(); err != nil || got != conf {
		t.Errorf("ClientFile = %q, %v, want %q", got, err, conf)
	}
	t.Setenv("XDG_CONFIG_HOME", "/xdg")
	if got, err := ClientFile(); err != nil || got != "/xdg/transfer/config.yaml" {
		t.Errorf("ClientFile = %q, %v, want it below /xdg", got, err)
	}
}
