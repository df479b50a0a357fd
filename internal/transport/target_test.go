package transport

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseTarget(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want Target
	}{
		{"-", Target{Scheme: SchemeStdio}},
		{"a/b", Target{Path: "a/b"}},
		{"/a:b/c", Target{Path: "/a:b/c"}},
		{"./a:b", Target{Path: "./a:b"}},
		{"./-", Target{Path: "./-"}},
		{"a b\xff", Target{Path: "a b\xff"}},
		{":name", Target{Path: ":name"}},
		{"[name", Target{Path: "[name"}},
		{"[name]", Target{Path: "[name]"}},
		{"dir/host:path", Target{Path: "dir/host:path"}},
		{"host:", Target{Scheme: SchemeHostPath, Host: "host"}},
		{"host:path", Target{Scheme: SchemeHostPath, Host: "host", Path: "path"}},
		{"host:/a b:c", Target{Scheme: SchemeHostPath, Host: "host", Path: "/a b:c"}},
		{"host:~/x", Target{Scheme: SchemeHostPath, Host: "host", Path: "~/x"}},
		{"host:2022/x", Target{Scheme: SchemeHostPath, Host: "host", Path: "2022/x"}},
		{"lab@host:x", Target{Scheme: SchemeHostPath, User: "lab", Host: "host", Path: "x"}},
		{"lab@corp.example@host:x", Target{Scheme: SchemeHostPath, User: "lab@corp.example", Host: "host", Path: "x"}},
		{"192.0.2.1:x%41", Target{Scheme: SchemeHostPath, Host: "192.0.2.1", Path: "x%41"}},
		{"[2001:db8::1]:x", Target{Scheme: SchemeHostPath, Host: "2001:db8::1", Path: "x"}},
		{"lab@[fe80::1%eth0]:/x", Target{Scheme: SchemeHostPath, User: "lab", Host: "fe80::1%eth0", Path: "/x"}},
		{"[host]:x", Target{Scheme: SchemeHostPath, Host: "host", Path: "x"}},
		{"ssh://host", Target{Scheme: SchemeSSH, Host: "host"}},
		{"ssh://host/", Target{Scheme: SchemeSSH, Host: "host", Path: "/"}},
		{"ssh://host/a/b", Target{Scheme: SchemeSSH, Host: "host", Path: "/a/b"}},
		{"SSH://lab@host:2022/a", Target{Scheme: SchemeSSH, User: "lab", Host: "host", Port: 2022, Path: "/a"}},
		{"ssh://host/~/x", Target{Scheme: SchemeSSH, Host: "host", Path: "~/x"}},
		{"ssh://host/~", Target{Scheme: SchemeSSH, Host: "host", Path: "~"}},
		{"ssh://host/~bob/x", Target{Scheme: SchemeSSH, Host: "host", Path: "/~bob/x"}},
		{"ssh://host/a%20b%2Fc?d#e", Target{Scheme: SchemeSSH, Host: "host", Path: "/a b/c?d#e"}},
		{"ssh://l%40b@host/a", Target{Scheme: SchemeSSH, User: "l@b", Host: "host", Path: "/a"}},
		{"sftp://[2001:db8::1]/x", Target{Scheme: SchemeSFTP, Host: "2001:db8::1", Path: "/x"}},
		{"sftp://lab@[fe80::1%25eth0]:22/x", Target{Scheme: SchemeSFTP, User: "lab", Host: "fe80::1%eth0", Port: 22, Path: "/x"}},
		{"ssh://[fe80::1%eth0]/x", Target{Scheme: SchemeSSH, Host: "fe80::1%eth0", Path: "/x"}},
		{"tcp://lab@host/x", Target{Scheme: SchemeTCP, User: "lab", Host: "host", Path: "/x"}},
		{"tcp://[2001:db8::1]:2024/~/x", Target{Scheme: SchemeTCP, Host: "2001:db8::1", Port: 2024, Path: "~/x"}},
		{"a+b/c://d", Target{Path: "a+b/c://d"}},
	} {
		got, err := ParseTarget(tt.in)
		tt.want.Raw = tt.in
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("ParseTarget(%q) = %v\n%s", tt.in, err, diff)
		}
		again, err := ParseTarget(got.String())
		again.Raw = tt.in
		if diff := cmp.Diff(got, again); err != nil || diff != "" {
			t.Errorf("ParseTarget(%q), from %q: %v\n%s", got.String(), tt.in, err, diff)
		}
	}
}

func TestParseTargetSaysWhatIsWrong(t *testing.T) {
	for _, tt := range []struct{ in, says string }{
		{"", "empty"},
		{"a\x00b", "NUL"},
		{"ssh://h/a%00", "NUL"},
		{"scp://host/x", "use ssh://host/x"},
		{"http://host/x", "use ssh://, sftp:// or tcp://"},
		{"@host:x", "no user name"},
		{"user@:x", "no host"},
		{"ssh:///x", "no host"},
		{"ssh://@host/x", "no user name"},
		{"ssh://host:/x", "1 to 65535"},
		{"ssh://host:0/x", "1 to 65535"},
		{"ssh://host:65536/x", "1 to 65535"},
		{"ssh://host:+22/x", "1 to 65535"},
		{"ssh://host:ssh/x", "1 to 65535"},
		{"ssh://2001:db8::1/x", "brackets"},
		{"2001:db8::1:x", "[2001:db8::1]:path"},
		{"[fe80::zz]:x", "no host name"},
		{"-oProxyCommand=x:y", "no host name"},
		{"ho st:x", "no host name"},
		{"-l@host:x", "no user name"},
		{"ssh://lab:secret@host/x", "password"},
		{"ssh://host/%zz", "%25"},
	} {
		_, err := ParseTarget(tt.in)
		if !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("ParseTarget(%q) = %v, want ErrUsage that says %q", tt.in, err, tt.says)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("ParseTarget(%q) tells the password: %v", tt.in, err)
		}
	}
}

func TestParseTargetOnWindows(t *testing.T) {
	for _, tt := range []struct {
		in     string
		remote bool
	}{
		{`C:\x`, false},
		{`c:/x`, false},
		{`C:`, false},
		{`\\server\share:x`, false},
		{`dir\host:x`, false},
		{`host:x`, true},
		{`ab:x`, true},
		{`1:x`, true},
	} {
		got, err := parseTarget(tt.in, true)
		if err != nil || got.Remote() != tt.remote {
			t.Errorf("parseTarget(%q) on Windows = %+v, %v", tt.in, got, err)
		}
	}
}

func TestTargetStringOfLocalNames(t *testing.T) {
	for path, want := range map[string]string{
		"a": "a", "-": "./-", "a:b": "./a:b", "ssh://x/": "./ssh://x/", "/a:b": "/a:b",
	} {
		if got := (Target{Path: path}).String(); got != want {
			t.Errorf("Target{Path: %q}.String() = %q, want %q", path, got, want)
		}
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, seed := range []string{
		"-", "a", "host:path", "u@[fe80::1%eth0]:x", "ssh://u@h:22/~/x", "sftp://[::1]:22/%41",
		"ssh://h/%zz", `C:\x`, "[a]@[b]:c", "u@h@[::1]:x", "ssh://%25h/", "ssh://[v1.x]/",
	} {
		f.Add(seed, false)
		f.Add(seed, true)
	}
	f.Fuzz(func(t *testing.T, s string, windows bool) {
		target, err := parseTarget(s, windows)
		if err != nil {
			if !errors.Is(err, ErrUsage) {
				t.Fatalf("parseTarget(%q): %v is no ErrUsage", s, err)
			}
			return
		}
		if target.Remote() == (target.Host == "") {
			t.Fatalf("parseTarget(%q) = %+v", s, target)
		}
		if windows {
			return // String writes for this system
		}
		again, err := parseTarget(target.String(), false)
		if err != nil {
			t.Fatalf("parseTarget(%q) from %q: %v", target.String(), s, err)
		}
		again.Raw = s
		if target != again {
			t.Fatalf("%q is %+v, but %q is %+v", s, target, target.String(), again)
		}
	})
}
