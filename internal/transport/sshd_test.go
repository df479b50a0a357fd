//go:build unix

package transport

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"transferd/auth"
	"transferd/internal/testpeer"
	"transferd/internal/tree"
)

// options are what a person would type to reach s.
func options(s *testpeer.SSHD) Options {
	return Options{
		Port: s.Port, KnownHosts: s.KnownHosts, HostKeyCheck: "strict", Identities: []string{s.Identity},
		SSHOptions: []string{"IdentitiesOnly=yes"},
	}
}

// hostPath is the home on s as a target.
func hostPath(s *testpeer.SSHD) string { return s.User + "@" + s.Host + ":" }

func TestStockSSHD(t *testing.T) {
	s := testpeer.StartSSHD(t, testpeer.SSHDOptions{External: true})
	var log bytes.Buffer
	o := options(s)
	o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	p := newPool(t, o)
	r, err := connect(t, p, hostPath(s))
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	home, err := r.Home(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if want := s.User + "@" + s.Addr(); r.Label() != want || r.Transport() != "sftp" {
		t.Errorf("Label = %q, want %q; Transport = %q", r.Label(), want, r.Transport())
	}
	if got := r.Ciphers(ctx); len(got) == 0 || !strings.Contains(got[0], "gcm") {
		t.Errorf("Ciphers = %q", got)
	}
	if got := strings.Join(r.Describe(ctx), "\n"); !strings.Contains(got, r.Label()) || !strings.Contains(got, "gcm") {
		t.Errorf("Describe = %q", got)
	}
	for _, text := range []string{"SHA256:", "OpenSSH", "cipher=", "key_exchange=", filepath.Base(s.Identity)} {
		if !strings.Contains(log.String(), text) {
			t.Errorf("the log does not say %q:\n%s", text, &log)
		}
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "real"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "real"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	at := tree.Path(dir[1:])
	for _, tt := range []struct {
		path string
		want tree.Path
	}{
		{"", home},
		{".", home},
		{"~", home},
		{"~/", home},
		{"~/a//b/", home.Join("a").Join("b")},
		{"a", home.Join("a")},
		{"./~a", home.Join("~a")},
		{"/", tree.Root},
		{dir + "/link", at.Join("link")},
		{dir + "/link/..", at},
		{dir + "/link/../link", at.Join("link")},
		{dir + "/real/./x", at.Join("real").Join("x")},
		{"~root/x", "root/x"},
	} {
		got, err := r.Resolve(ctx, tt.path)
		if strings.HasPrefix(tt.path, "~root") && errors.Is(err, errors.ErrUnsupported) {
			continue // an sshd before 9.0
		}
		if err != nil || got != tt.want {
			t.Errorf("Resolve(%q) = %q, %v, want %q", tt.path, got, err, tt.want)
		}
	}
	if _, err := r.Resolve(ctx, dir+"/none/../x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Resolve of .. below nothing = %v", err)
	}
	if e, err := r.Stat(ctx, at.Join("link")); err != nil || !e.IsDir() {
		t.Errorf("Stat = %+v, %v", e, err)
	}
}

func TestStockSSHDIsLostAndFound(t *testing.T) {
	s := testpeer.StartSSHD(t, testpeer.SSHDOptions{})
	p := newPool(t, options(s))
	r, err := connect(t, p, hostPath(s))
	if err != nil {
		t.Fatal(err)
	}
	first := r.server.links[0]
	s.Kill()
	<-first.dead
	if _, err := r.Stat(t.Context(), tree.Root); !errors.Is(err, tree.ErrLost) {
		t.Errorf("Stat while sshd is gone = %v, want ErrLost", err)
	}
	s.Restart(t)
	// One call may still find the old connection.
	for range 2 {
		if _, err = r.Stat(t.Context(), tree.Root); err == nil {
			break
		}
	}
	if err != nil {
		t.Errorf("Stat after the restart = %v", err)
	}
}

func TestHostKeys(t *testing.T) {
	s := testpeer.StartSSHD(t, testpeer.SSHDOptions{})
	known, err := os.ReadFile(s.KnownHosts)
	if err != nil {
		t.Fatal(err)
	}
	name := "[" + s.Host + "]:" + strconv.Itoa(s.Port)
	other := testpeer.Key(t, t.TempDir(), "other", "ed25519")
	changed, err := os.ReadFile(other + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := strings.Replace(string(known), name, "elsewhere", 1)
	for _, tt := range []struct {
		name   string
		known  string
		check  string
		words  []string
		ok     bool
		says   string // in the error, or the question
		writes bool
	}{
		{"strict and unknown", "", "strict", nil, false, "SHA256:", false},
		{"strict and known", string(known), "strict", nil, true, "", false},
		{"strict and changed", name + " " + string(changed), "strict", nil, false, "CHANGED", false},
		{"accept-new and changed", name + " " + string(changed), "accept-new", nil, false, "CHANGED", false},
		{"accept-new", "", "accept-new", nil, true, "", true},
		{"ask, no", "", "ask", []string{"no"}, false, "you said no", false},
		{"ask, yes", "", "ask", []string{"perhaps", "yes"}, true, "fingerprint", true},
		{"ask, known under another name", elsewhere, "ask", []string{"yes"}, true, "elsewhere", true},
		{"off and changed", name + " " + string(changed), "off", nil, true, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "known_hosts")
			if err := os.WriteFile(file, []byte(tt.known), 0o600); err != nil {
				t.Fatal(err)
			}
			o := options(s)
			ask := &prompter{words: tt.words}
			o.KnownHosts, o.HostKeyCheck, o.Prompt = file, tt.check, ask
			p := newPool(t, o)
			_, err := connect(t, p, hostPath(s))
			switch {
			case tt.ok && err != nil:
				t.Errorf("Connect = %v", err)
			case !tt.ok && (!errors.Is(err, auth.ErrHostKey) || !strings.Contains(err.Error(), tt.says)):
				t.Errorf("Connect = %v, want ErrHostKey that says %q", err, tt.says)
			case tt.ok && !strings.Contains(strings.Join(ask.questions(), ""), tt.says):
				t.Errorf("asked %q, which does not say %q", ask.questions(), tt.says)
			}
			after, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if wrote := string(after) != tt.known; wrote != tt.writes || wrote && !strings.Contains(string(after), name) {
				t.Errorf("known_hosts holds %q", after)
			}
		})
	}
}

func TestHostKeyAlgorithmFollowsKnownHosts(t *testing.T) {
	rsa := testpeer.Key(t, t.TempDir(), "host_rsa", "rsa")
	s := testpeer.StartSSHD(t, testpeer.SSHDOptions{Config: []string{"HostKey " + rsa}})
	public, err := os.ReadFile(rsa + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	s.WriteKnownHosts(t, string(public))
	if _, err := connect(t, newPool(t, options(s)), hostPath(s)); err != nil {
		t.Errorf("only the server's RSA key is known: %v", err)
	}
}

func TestJumpThroughTwoHosts(t *testing.T) {
	a := testpeer.StartSSHD(t, testpeer.SSHDOptions{})
	b := testpeer.StartSSHD(t, testpeer.SSHDOptions{})
	c := testpeer.StartSSHD(t, testpeer.SSHDOptions{})
	config := filepath.Join(t.TempDir(), "config")
	var text strings.Builder
	for name, s := range map[string]*testpeer.SSHD{"first": a, "second": b, "last": c} {
		text.WriteString("Host " + name + "\n HostName " + s.Host + "\n Port " + strconv.Itoa(s.Port) + "\n User " + s.User +
			"\n IdentityFile " + s.Identity + "\n IdentitiesOnly yes\n UserKnownHostsFile " + s.KnownHosts + "\n")
	}
	text.WriteString("Host last\n ProxyJump first,second\n")
	if err := os.WriteFile(config, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	p := newPool(t, Options{SSHConfig: config, Streams: 2})
	r, err := connect(t, p, "last:")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Stat(t.Context(), tree.Root); err != nil {
		t.Error(err)
	}
	lane, err := r.server.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = lane.Close()
	if len(r.server.hops) != 2 || len(r.server.links) != 2 {
		t.Errorf("%d hops, %d connections", len(r.server.hops), len(r.server.links))
	}

	t.Run("a hop's key is checked too", func(t *testing.T) {
		if err := os.WriteFile(b.KnownHosts, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := connect(t, newPool(t, Options{SSHConfig: config}), "last:")
		if !errors.Is(err, auth.ErrHostKey) || !strings.Contains(err.Error(), "jump host") {
			t.Errorf("Connect = %v", err)
		}
	})
	t.Run("nothing listens behind the hop", func(t *testing.T) {
		c.Kill()
		_, err := connect(t, newPool(t, Options{SSHConfig: config, Jump: "first"}), "last:")
		var hint Hinter
		if !errors.Is(err, ErrConnect) || !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "AllowTcpForwarding") {
			t.Errorf("Connect = %v", err)
		}
	})
}

func TestConnectionRefused(t *testing.T) {
	s := testpeer.StartSSHD(t, testpeer.SSHDOptions{})
	s.Kill()
	_, err := connect(t, newPool(t, options(s)), hostPath(s))
	var hint Hinter
	if !errors.Is(err, ErrConnect) || errors.Is(err, tree.ErrLost) || !errors.As(err, &hint) || !strings.Contains(hint.Hint(), strconv.Itoa(s.Port)) {
		t.Errorf("Connect = %v", err)
	}
}

func TestAgent(t *testing.T) {
	s := testpeer.StartSSHD(t, testpeer.SSHDOptions{})
	dir := t.TempDir()
	socket := filepath.Join(dir, "agent")
	cmd := exec.CommandContext(t.Context(), testpeer.Need(t, "ssh-agent"), "-D", "-a", socket)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := out.Read(make([]byte, 1)); err != nil { // it tells its environment once it listens
		t.Fatal(err)
	}
	add := exec.CommandContext(t.Context(), testpeer.Need(t, "ssh-add"), "-q", testpeer.Key(t, dir, "other", "rsa"), s.Identity)
	add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
	if text, err := add.CombinedOutput(); err != nil {
		t.Fatalf("ssh-add: %v\n%s", err, text)
	}
	for _, tt := range []struct {
		name    string
		env     string
		options []string
		files   []string
		ok      bool
	}{
		{name: "SSH_AUTH_SOCK", env: socket, ok: true},
		{name: "IdentityAgent", options: []string{"IdentityAgent=" + socket}, ok: true},
		{name: "IdentityAgent none", env: socket, options: []string{"IdentityAgent=none"}},
		{name: "IdentitiesOnly without the key", env: socket, options: []string{"IdentitiesOnly=yes"}, files: []string{dir + "/other"}},
		{name: "IdentitiesOnly by the public key", env: socket, options: []string{"IdentitiesOnly=yes"}, files: []string{s.Identity + ".pub"}, ok: true},
		{name: "no agent", env: dir + "/none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := options(s)
			o.Identities, o.SSHOptions = tt.files, tt.options
			p := newPool(t, o)
			t.Setenv("SSH_AUTH_SOCK", tt.env)
			_, err := connect(t, p, hostPath(s))
			if tt.ok && err != nil || !tt.ok && !errors.Is(err, auth.ErrAuth) {
				t.Errorf("Connect = %v", err)
			}
		})
	}
}

func TestCertificateFile(t *testing.T) {
	dir := t.TempDir()
	ca, key := testpeer.Key(t, dir, "ca", "ed25519"), testpeer.Key(t, dir, "user", "ed25519")
	s := testpeer.StartSSHD(t, testpeer.SSHDOptions{Config: []string{"TrustedUserCAKeys " + ca + ".pub"}})
	cmd := exec.CommandContext(t.Context(), testpeer.Need(t, "ssh-keygen"), "-q", "-s", ca, "-I", "me", "-n", s.User, key+".pub")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	elsewhere := filepath.Join(t.TempDir(), "cert")
	if err := os.Rename(key+"-cert.pub", elsewhere); err != nil {
		t.Fatal(err)
	}
	o := options(s)
	o.Identities = []string{key}
	if _, err := connect(t, newPool(t, o), hostPath(s)); !errors.Is(err, auth.ErrAuth) {
		t.Errorf("Connect without the certificate = %v", err)
	}
	o.SSHOptions = append(o.SSHOptions, "CertificateFile="+elsewhere)
	if _, err := connect(t, newPool(t, o), hostPath(s)); err != nil {
		t.Errorf("Connect with the certificate = %v", err)
	}
}

func TestTooManyKeys(t *testing.T) {
	s := testpeer.StartSSHD(t, testpeer.SSHDOptions{Config: []string{"MaxAuthTries 2"}})
	o := options(s)
	o.Identities = nil
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "c", "d"} {
		o.Identities = append(o.Identities, testpeer.Key(t, dir, name, "ed25519"))
	}
	_, err := connect(t, newPool(t, o), hostPath(s))
	var hint Hinter
	if !errors.Is(err, auth.ErrAuth) || !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "IdentitiesOnly") {
		t.Errorf("Connect = %v", err)
	}
}

func TestCipherFlag(t *testing.T) {
	s := testpeer.StartSSHD(t, testpeer.SSHDOptions{})
	o := options(s)
	o.Ciphers = "aes256-ctr"
	r, err := connect(t, newPool(t, o), hostPath(s))
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Ciphers(context.WithoutCancel(t.Context())); len(got) == 0 || got[0] != "aes256-ctr" {
		t.Errorf("Ciphers = %q", got)
	}
}
