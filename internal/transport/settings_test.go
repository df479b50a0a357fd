package transport

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"transferd/auth"
)

// newTestResolver returns a resolver of a machine that has nothing but the
// given files, named relative to its home.
func newTestResolver(t *testing.T, o Options, files map[string]string) (*resolver, *bytes.Buffer) {
	t.Helper()
	home := t.TempDir()
	for name, text := range files {
		path := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var log bytes.Buffer
	r := &resolver{
		o: o, log: slog.New(slog.NewTextHandler(&log, nil)),
		m: machine{home: home, user: "me", system: filepath.Join(home, "etc", "ssh_config")},
	}
	return r, &log
}

// summary is what the tables compare of settings.
type summary struct {
	Host, User string
	Port       int
	Jump       string
}

func summarise(s settings) summary {
	var jump []string
	for _, hop := range s.jump {
		jump = append(jump, hop.label())
	}
	return summary{Host: s.host, User: s.user, Port: s.port, Jump: strings.Join(jump, " ")}
}

func TestResolvePrecedence(t *testing.T) {
	hosts := []Host{
		{Name: "scope", Address: "10.0.3.7", User: "lab", Port: 2022},
		{Name: "scope", Address: "10.9.9.9"},
		{Name: "half", User: "half"},
		{Name: "behind", Jump: "op@gate:24"},
	}
	for _, tt := range []struct {
		name   string
		o      Options
		config string
		target string
		want   summary
	}{
		{"defaults", Options{}, "", "h:x", summary{"h", "me", 22, ""}},
		{"hosts", Options{Hosts: hosts}, "", "scope:x", summary{"10.0.3.7", "lab", 2022, ""}},
		{"hosts without case", Options{Hosts: hosts}, "", "Scope:x", summary{"10.0.3.7", "lab", 2022, ""}},
		{
			"hosts with a jump",
			Options{Hosts: hosts},
			"Host behind\n ProxyJump other\n", "behind:x",
			summary{"behind", "me", 22, "op@gate:24"},
		},
		{
			"hosts before ssh_config",
			Options{Hosts: hosts},
			"Host scope\n HostName other\n User other\n Port 99\n ProxyJump gate\n", "scope:x",
			summary{"10.0.3.7", "lab", 2022, "me@gate:22"},
		},
		{
			"ssh_config fills what hosts leaves",
			Options{Hosts: hosts},
			"Host half\n HostName other\n User other\n Port 99\n", "half:x",
			summary{"other", "half", 99, ""},
		},
		{
			"flags before hosts",
			Options{Hosts: hosts, Port: 7, SSHOptions: []string{"User=opt"}},
			"", "scope:x",
			summary{"10.0.3.7", "opt", 7, ""},
		},
		{
			"target before flags",
			Options{Port: 7, SSHOptions: []string{"User=opt"}},
			"", "ssh://u@h:8/x",
			summary{"h", "u", 8, ""},
		},
		{"flag before -o", Options{Port: 7, SSHOptions: []string{"port 8"}}, "", "h:x", summary{"h", "me", 7, ""}},
		{"the first -o", Options{SSHOptions: []string{"Port=8", "Port=9"}}, "", "h:x", summary{"h", "me", 8, ""}},
		{"-o HostName", Options{SSHOptions: []string{"HostName=%h.example"}}, "", "h:x", summary{"h.example", "me", 22, ""}},
		{
			"the first in the file",
			Options{},
			"Host h\n Port 1\nHost *\n Port 2\n User all\n", "h:x",
			summary{"h", "all", 1, ""},
		},
		{"before any Host", Options{}, "Port = 5\nHost h\nPort 6\n", "h:x", summary{"h", "me", 5, ""}},
		{"quotes and comments", Options{}, "Host h # it\n User \"a b\" # who\n", "h:x", summary{"h", "a b", 22, ""}},
		{"no newline at the end, CRLF", Options{}, "Host h\r\n\tPort 5", "h:x", summary{"h", "me", 5, ""}},
		{"negated pattern", Options{}, "Host * !h\n Port 5\n", "h:x", summary{"h", "me", 22, ""}},
		{"question mark", Options{}, "Host web?\n Port 5\n", "web:x", summary{"web", "me", 22, ""}},
		{"HostName with a token", Options{}, "Host h\n HostName %h.example\n", "h:x", summary{"h.example", "me", 22, ""}},
		{"HostName with a zone", Options{}, "Host h\n HostName fe80::1%%eth0\n", "h:x", summary{"fe80::1%eth0", "me", 22, ""}},
		{"Match host", Options{}, "Match host h,i !user root\n Port 5\n", "h:x", summary{"h", "me", 5, ""}},
		{"Match host sees HostName", Options{}, "Host h\n HostName real\nMatch host real\n Port 5\n", "h:x", summary{"real", "me", 5, ""}},
		{"Match originalhost", Options{}, "Host h\n HostName real\nMatch originalhost h\n Port 5\n", "h:x", summary{"real", "me", 5, ""}},
		{"Match user", Options{}, "Match user lab\n Port 5\n", "lab@h:x", summary{"h", "lab", 5, ""}},
		{"Match user not", Options{}, "Match user lab\n Port 5\n", "h:x", summary{"h", "me", 22, ""}},
		{"Match host and user", Options{}, "Match host h user lab\n Port 5\n", "h:x", summary{"h", "me", 22, ""}},
		{"Match localuser", Options{}, "Match localuser m*\n Port 5\n", "h:x", summary{"h", "me", 5, ""}},
		{"Match all", Options{}, "Match all\n Port 5\n", "h:x", summary{"h", "me", 5, ""}},
		{"Match final", Options{}, "Match final all\n Port 5\nMatch all\n Port 6\n", "h:x", summary{"h", "me", 6, ""}},
		{"Match exec", Options{}, "Match exec true\n Port 5\nHost h\n User u\n", "h:x", summary{"h", "u", 22, ""}},
		{"-F none", Options{SSHConfig: "none"}, "Port 5\n", "h:x", summary{"h", "me", 22, ""}},
		{"-J", Options{Jump: "a,b@c:5"}, "Host h\n ProxyJump no\nHost a\n User ua\n", "h:x", summary{"h", "me", 22, "ua@a:22 b@c:5"}},
		{"-J none", Options{Jump: "none"}, "ProxyJump gate\n", "h:x", summary{"h", "me", 22, ""}},
		{
			"the first hop has hops",
			Options{Jump: "b,c"},
			"Host b\n ProxyJump a\nHost c\n ProxyJump z\n", "h:x",
			summary{"h", "me", 22, "me@a:22 me@b:22 me@c:22"},
		},
		{
			"hops use hosts, and no flags of the target",
			Options{Hosts: hosts, Jump: "scope", Port: 7},
			"", "h:x",
			summary{"h", "me", 7, "lab@10.0.3.7:2022"},
		},
		{"IPv6 hop", Options{Jump: "[::1]:5"}, "", "h:x", summary{"h", "me", 22, "me@[::1]:5"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, log := newTestResolver(t, tt.o, map[string]string{".ssh/config": tt.config})
			target, err := ParseTarget(tt.target)
			if err != nil {
				t.Fatal(err)
			}
			s, err := r.resolve(target)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, summarise(s)); diff != "" {
				t.Error(diff)
			}
			if warned := log.Len() > 0; warned != strings.Contains(tt.config, "exec") {
				t.Errorf("the log says %q", log)
			}
		})
	}
}

func TestResolveReadsEveryFile(t *testing.T) {
	r, _ := newTestResolver(t, Options{}, map[string]string{
		".ssh/config":        "Include conf.d/*.conf ~/more none-such\nHost h\n Port 5\n Include inner\nHost i\n Include other\n",
		".ssh/conf.d/1":      "Port 1\n",
		".ssh/conf.d/a.conf": "Host h\n User a\n",
		".ssh/conf.d/b.conf": "User b\n",
		"more":               "HashKnownHosts yes\n",
		".ssh/inner":         "ConnectTimeout 1m5\nHost x\n HostKeyAlias no\n",
		".ssh/other":         "HostKeyAlias no\n",
		"etc/ssh_config":     "Include sys.d/*\nUser c\nServerAliveInterval 7\n",
		"etc/sys.d/x":        "ServerAliveCountMax 9\n",
	})
	s, err := r.resolve(Target{Scheme: SchemeHostPath, Host: "h"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(summary{"h", "a", 5, ""}, summarise(s)); diff != "" {
		t.Error(diff)
	}
	if s.timeout != 65*time.Second || s.interval != 7*time.Second || s.unanswered != 9 || !s.hash || s.keyAlias != "" {
		t.Errorf("timeout %v, interval %v, unanswered %d, hash %v, alias %q", s.timeout, s.interval, s.unanswered, s.hash, s.keyAlias)
	}
}

func TestResolveFiles(t *testing.T) {
	t.Setenv("KEYS", "/keys")
	r, _ := newTestResolver(t, Options{Identities: []string{"/i/first"}}, map[string]string{".ssh/config": `
Host h
 HostName real
 IdentityFile ~/.ssh/%r@%h
 IdentityFile ${KEYS}/%n-%p
 CertificateFile %d/cert
 IdentitiesOnly yes
 IdentityAgent ~/agent
 UserKnownHostsFile ~/kh1 "%d/k h2"
 GlobalKnownHostsFile none
 HostKeyAlias alias
 StrictHostKeyChecking accept-new
 AddressFamily inet6
 Ciphers aes256-gcm@openssh.com
 BatchMode yes
`})
	s, err := r.resolve(Target{Scheme: SchemeHostPath, Host: "h"})
	if err != nil {
		t.Fatal(err)
	}
	home := r.m.home
	for _, tt := range []struct {
		what      string
		got, want any
	}{
		{"named", s.named, []string{"/i/first"}},
		{"identities", s.identities, []string{home + "/.ssh/me@real", "/keys/h-22"}},
		{"certificates", s.certificates, []string{home + "/cert"}},
		{"identitiesOnly", s.identitiesOnly, true},
		{"agent", s.agent, home + "/agent"},
		{"knownHosts", s.knownHosts, []string{home + "/kh1", home + "/k h2"}},
		{"trustName", s.trustName(), "alias:22"},
		{"policy", s.policy, auth.PolicyAcceptNew},
		{"network", s.network, "tcp6"},
		{"ciphers", s.ciphers, []string{"aes256-gcm@openssh.com"}},
		{"ask", s.ask, false},
	} {
		if diff := cmp.Diff(tt.want, tt.got); diff != "" {
			t.Errorf("%s: %s", tt.what, diff)
		}
	}
}

func TestResolveDefaults(t *testing.T) {
	r, _ := newTestResolver(t, Options{Prompt: &prompter{}}, nil)
	s, err := r.resolve(Target{Scheme: SchemeHostPath, Host: "h"})
	if err != nil {
		t.Fatal(err)
	}
	home := r.m.home
	if diff := cmp.Diff(auth.DefaultIdentityFiles(home), s.identities); diff != "" {
		t.Error(diff)
	}
	want := []string{home + "/.ssh/known_hosts", home + "/.ssh/known_hosts2", home + "/etc/ssh_known_hosts", home + "/etc/ssh_known_hosts2"}
	if diff := cmp.Diff(want, s.knownHosts); diff != "" {
		t.Error(diff)
	}
	if s.policy != auth.PolicyAsk || s.timeout != defaultTimeout || s.interval*time.Duration(s.unanswered+1) > 15*time.Second {
		t.Errorf("policy %v, timeout %v, dead after %v × %d", s.policy, s.timeout, s.interval, s.unanswered+1)
	}
	r.o.Prompt = nil
	if s, err = r.resolve(Target{Scheme: SchemeHostPath, Host: "h"}); err != nil || s.policy != auth.PolicyStrict {
		t.Errorf("without anybody to ask the policy is %v, %v", s.policy, err)
	}
}

func TestResolveSaysWhatIsWrong(t *testing.T) {
	for _, tt := range []struct {
		name   string
		o      Options
		config string
		says   []string
	}{
		{"port in a file", Options{}, "\nPort 0x16\n", []string{".ssh/config line 2", "1 to 65535"}},
		{"unknown token", Options{}, "IdentityFile %C\n", []string{"line 1", "%C"}},
		{"unset variable", Options{}, "IdentityFile ${NO_SUCH_VARIABLE}/x\n", []string{"NO_SUCH_VARIABLE"}},
		{"yes or no", Options{}, "IdentitiesOnly perhaps\n", []string{"yes nor no"}},
		{"time", Options{}, "ConnectTimeout soon\n", []string{"1m30s"}},
		{"policy", Options{}, "StrictHostKeyChecking maybe\n", []string{"line 1", "accept-new"}},
		{"cipher", Options{SSHOptions: []string{"Ciphers=rot13"}}, "", []string{"-o", "aes128-gcm"}},
		{"host name", Options{}, "HostName -oops\n", []string{"no host name"}},
		{"include of itself", Options{}, "Include config\n", []string{"include each other"}},
		{"circle of jumps", Options{}, "Host *\n ProxyJump gate\n", []string{"circle"}},
		{"bad jump", Options{Jump: "a:b:c"}, "", []string{"-J"}},
		{"jump with a path", Options{Jump: "ssh://a/b"}, "", []string{"-J", "jump host"}},
		{"Match without a criterion", Options{}, "Match\n Port 1\n", []string{"line 1", "criterion"}},
		{"Match host without a pattern", Options{}, "Match host\n Port 1\n", []string{"pattern"}},
		{"-F of nothing", Options{SSHConfig: "/no/such/file"}, "", []string{"-F /no/such/file", "-F none"}},
		{"transport", Options{Transport: "udp"}, "", []string{"--transport", "auto, tcp, ssh or sftp"}},
		{"transport of hosts", Options{Hosts: []Host{{Name: "h", Transport: "udp"}}}, "", []string{"hosts entry h", "auto, tcp, ssh or sftp"}},
		{"option", Options{SSHOptions: []string{"ForwardX11=yes"}}, "", []string{"ForwardX11", "ServerAliveInterval"}},
		{"option without a value", Options{SSHOptions: []string{"Port"}}, "", []string{"KEY=VALUE"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, _ := newTestResolver(t, tt.o, map[string]string{".ssh/config": tt.config})
			_, err := r.resolve(Target{Scheme: SchemeHostPath, Host: "h"})
			if !errors.Is(err, ErrUsage) {
				t.Fatalf("resolve = %v, want ErrUsage", err)
			}
			for _, says := range tt.says {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("resolve = %v, which does not say %q", err, says)
				}
			}
		})
	}
}

func TestProxyCommandIsNotPassedOverInSilence(t *testing.T) {
	for config, warned := range map[string]bool{
		"ProxyCommand nc %h %p\n":                 true,
		"ProxyCommand none\n":                     false,
		"ProxyJump none\nProxyCommand nc %h %p\n": false,
	} {
		r, log := newTestResolver(t, Options{}, map[string]string{".ssh/config": config})
		if _, err := r.resolve(Target{Scheme: SchemeHostPath, Host: "h"}); err != nil {
			t.Error(err)
		}
		if got := strings.Contains(log.String(), "ProxyCommand"); got != warned {
			t.Errorf("with %q the log says %q", config, log)
		}
	}
}

func TestCiphersOfAFileMayBeUnknown(t *testing.T) {
	for spec, want := range map[string][]string{
		"aes128-cbc,aes128-ctr": {"aes128-ctr"},
		"-aes128-cbc":           nil,
		"^aes256-ctr,3des-cbc":  append([]string{"aes256-ctr"}, "aes128-gcm@openssh.com"),
	} {
		r, _ := newTestResolver(t, Options{}, map[string]string{".ssh/config": "Ciphers " + spec + "\n"})
		s, err := r.resolve(Target{Scheme: SchemeHostPath, Host: "h"})
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, s.ciphers[:min(len(want), len(s.ciphers))]); diff != "" {
			t.Errorf("Ciphers %s: %s", spec, diff)
		}
	}
	r, _ := newTestResolver(t, Options{}, map[string]string{".ssh/config": "Ciphers 3des-cbc\n"})
	if _, err := r.resolve(Target{Scheme: SchemeHostPath, Host: "h"}); !errors.Is(err, ErrUsage) {
		t.Errorf("resolve = %v", err)
	}
}

func TestFamilyCountsForTheFirstHop(t *testing.T) {
	r, _ := newTestResolver(t, Options{IPv6: true, Jump: "gate"}, nil)
	s, err := r.resolve(Target{Scheme: SchemeHostPath, Host: "h"})
	if err != nil || s.jump[0].network != "tcp6" {
		t.Errorf("resolve = %+v, %v", s, err)
	}
}

func TestOptionsCheck(t *testing.T) {
	o := Options{
		Port: 70000, IPv4: true, IPv6: true, Streams: -1, Timeout: -1, HostKeyCheck: "sometimes", Ciphers: "x",
		Jump: "a b", SSHOptions: []string{"X=1"}, Transport: "udp", Bandwidth: -1, Compress: "gzip",
	}
	err := o.Check()
	if !errors.Is(err, ErrUsage) {
		t.Fatalf("Check = %v", err)
	}
	for _, says := range []string{"-P", "-4", "--streams", "--timeout", "--host-key-check", "-c", "-J", "-o X", "--transport", "--bwlimit", "--compress"} {
		if !strings.Contains(err.Error(), says) {
			t.Errorf("Check = %v, which does not say %q", err, says)
		}
	}
	if err := (Options{HostKeyCheck: "off", Ciphers: "aes128-ctr", Jump: "none", Transport: "auto"}).Check(); err != nil {
		t.Error(err)
	}
}

func TestWorldWritableConfigIsRefused(t *testing.T) {
	r, _ := newTestResolver(t, Options{}, map[string]string{".ssh/config": "Port 5\n"})
	if err := os.Chmod(filepath.Join(r.m.home, ".ssh", "config"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := r.resolve(Target{Scheme: SchemeHostPath, Host: "h"}); !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), "chmod") {
		t.Errorf("resolve = %v", err)
	}
}

func TestWildcard(t *testing.T) {
	for _, tt := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true},
		{"*", "", true},
		{"?", "", false},
		{"a*b*c", "aXbYbZc", true},
		{"a*b*c", "aXbYbZ", false},
		{"*.example", "a.b.example", true},
		{"10.0.?.7", "10.0.3.7", true},
		{"10.0.?.7", "10.0.33.7", false},
		{strings.Repeat("a*", 50) + "b", strings.Repeat("a", 5000), false},
	} {
		if got := wildcard(tt.pattern, tt.s); got != tt.want {
			t.Errorf("wildcard(%q, %q) = %v", tt.pattern, tt.s, got)
		}
	}
}

func FuzzSSHConfig(f *testing.F) {
	f.Add("Host a !b\n Port 5\nMatch host a user b\n\tUser \"x y\" # z\nInclude nothing*\n")
	f.Add("Match exec \"x\" all\n=\nHost\nHost \"a")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(strings.ToLower(text), "include") {
			return // what it finds on this machine is no part of the input
		}
		path := filepath.Join(t.TempDir(), "config")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r := &resolver{o: Options{SSHConfig: path}, m: machine{home: "/home/me", user: "me"}, log: slog.New(slog.DiscardHandler)}
		if _, err := r.resolve(Target{Scheme: SchemeHostPath, Host: "a"}); err != nil && !errors.Is(err, ErrUsage) {
			t.Fatal(err)
		}
	})
}
