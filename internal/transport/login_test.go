package transport

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"transferd/auth"
	"transferd/internal/tree"
)

var errDenied = errors.New("denied")

// passwordServer takes the password "secret".
func passwordServer() *fakeServer {
	return &fakeServer{config: ssh.ServerConfig{
		PasswordCallback: func(_ ssh.ConnMetadata, got []byte) (*ssh.Permissions, error) {
			if string(got) != "secret" {
				return nil, errDenied
			}
			return &ssh.Permissions{}, nil
		},
	}}
}

func TestPasswordIsAskedForOnce(t *testing.T) {
	s := passwordServer()
	s.config.BannerCallback = func(ssh.ConnMetadata) string { return "be\x1b[31m nice\n" }
	s.start(t)
	var stderr bytes.Buffer
	ask := &prompter{answers: []string{"wrong", "secret"}}
	p := newPool(t, Options{HostKeyCheck: "accept-new", Prompt: ask, Stderr: &stderr, Streams: 3})
	r, err := connect(t, p, s.target())
	if err != nil {
		t.Fatal(err)
	}
	if got := ask.questions(); len(got) != 2 || got[0] != "lab@127.0.0.1's password: " {
		t.Errorf("asked %q", got)
	}
	if known, err := os.ReadFile(filepath.Join(os.Getenv("HOME"), ".ssh", "known_hosts")); err != nil || !strings.Contains(string(known), strconv.Itoa(s.addr.Port)) {
		t.Errorf("known_hosts holds %q, %v", known, err)
	}
	for range 2 { // lanes on connections of their own
		lane, err := r.server.open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = lane.Close() }()
	}
	if s.count() != 3 || len(ask.questions()) != 2 {
		t.Errorf("%d connections, %d questions", s.count(), len(ask.questions()))
	}
	if text := stderr.String(); !strings.Contains(text, `be\033[31m nice`) || strings.Count(text, "nice") != 1 {
		t.Errorf("stderr is %q", text)
	}
}

func TestKeyboardInteractive(t *testing.T) {
	s := &fakeServer{config: ssh.ServerConfig{
		KeyboardInteractiveCallback: func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			got, err := ask("Two factors", "Have your\x07token", []string{"Password: ", "Seat: "}, []bool{false, true})
			if err != nil || len(got) != 2 || got[0] != "secret" || got[1] != "7" {
				return nil, errDenied
			}
			return &ssh.Permissions{}, nil
		},
	}}
	s.start(t)
	ask := &prompter{answers: []string{"secret", "7"}}
	p := newPool(t, Options{HostKeyCheck: "accept-new", Prompt: ask})
	r, err := connect(t, p, s.target())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"Two factors\nHave your\\007token\n(lab@127.0.0.1) Password: ", "(lab@127.0.0.1) Seat: "}
	if diff := cmp.Diff(want, ask.questions()); diff != "" {
		t.Error(diff)
	}
	// What may be seen may also change: it is not answered again unasked, and
	// the lane takes the connection there is.
	lane, err := r.server.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = lane.Close()
	if len(ask.questions()) != 2 || s.count() != 1 {
		t.Errorf("%d questions, %d connections", len(ask.questions()), s.count())
	}
}

func TestKeyboardInteractivePasswordIsAskedForOnce(t *testing.T) {
	s := &fakeServer{config: ssh.ServerConfig{
		KeyboardInteractiveCallback: func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			got, err := ask("", "", []string{"Password: "}, []bool{false})
			if err != nil || len(got) != 1 || got[0] != "secret" {
				return nil, errDenied
			}
			return &ssh.Permissions{}, nil
		},
	}}
	s.start(t)
	ask := &prompter{answers: []string{"oops", "secret"}}
	p := newPool(t, Options{HostKeyCheck: "off", Prompt: ask, Streams: 2})
	r, err := connect(t, p, s.target())
	if err != nil {
		t.Fatal(err)
	}
	lane, err := r.server.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = lane.Close()
	if len(ask.questions()) != 2 || s.count() != 2 {
		t.Errorf("%d questions, %d connections", len(ask.questions()), s.count())
	}
}

func TestRefusedLoginTellsWhatWasTried(t *testing.T) {
	s := passwordServer()
	s.config.PublicKeyCallback = func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, errDenied }
	s.start(t)
	dir := t.TempDir()
	key := writeKey(t, dir, "k", "")
	for _, tt := range []struct {
		name string
		o    Options
		says []string
	}{
		{"nobody to ask", Options{Identities: []string{key}}, []string{key, "SHA256:", "the server takes", "publickey"}},
		{"nothing to try", Options{}, []string{"nothing to try"}},
		{"three wrong passwords", Options{Prompt: &prompter{answers: []string{"a", "b", "c"}}}, []string{"tried password"}},
		{"no terminal after all", Options{Prompt: &prompter{}}, []string{"tried password", errUnexpected.Error()}},
		{"BatchMode", Options{Prompt: &prompter{answers: []string{"secret"}}, SSHOptions: []string{"BatchMode=yes"}}, []string{"nothing to try"}},
		{"PubkeyAuthentication=no", Options{Identities: []string{key}, SSHOptions: []string{"PubkeyAuthentication=no"}}, []string{"nothing to try"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.HostKeyCheck = "off"
			p := newPool(t, tt.o)
			_, err := connect(t, p, s.target())
			if !errors.Is(err, auth.ErrAuth) || errors.Is(err, ErrConnect) {
				t.Fatalf("Connect = %v, want ErrAuth", err)
			}
			for _, says := range append(tt.says, "lab@127.0.0.1:"+strconv.Itoa(s.addr.Port)) {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("Connect = %v, which does not say %q", err, says)
				}
			}
		})
	}
}

// writeKey makes a key file with a passphrase, "" for none.
func writeKey(t *testing.T, dir, name, passphrase string) string {
	t.Helper()
	key, err := auth.GenerateKey("ed25519", 0, name)
	if err != nil {
		t.Fatal(err)
	}
	text, err := key.Marshal([]byte(passphrase), 1)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPartialSuccessGoesOnWithThePassword(t *testing.T) {
	s := passwordServer()
	password := s.config.PasswordCallback
	s.config.PasswordCallback = nil
	s.config.PublicKeyCallback = func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) {
		return nil, &ssh.PartialSuccessError{Next: ssh.ServerAuthCallbacks{PasswordCallback: password}}
	}
	s.start(t)
	ask := &prompter{answers: []string{"secret"}}
	p := newPool(t, Options{HostKeyCheck: "off", Prompt: ask, Identities: []string{writeKey(t, t.TempDir(), "k", "")}, Streams: 2})
	r, err := connect(t, p, s.target())
	if err != nil {
		t.Fatal(err)
	}
	lane, err := r.server.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = lane.Close()
	if len(ask.questions()) != 1 || s.count() != 2 {
		t.Errorf("%d questions, %d connections", len(ask.questions()), s.count())
	}
}

func TestPassphrase(t *testing.T) {
	s := &fakeServer{config: ssh.ServerConfig{
		PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return &ssh.Permissions{}, nil },
	}}
	s.start(t)
	key := writeKey(t, t.TempDir(), "locked", "open sesame")
	t.Run("asked for once", func(t *testing.T) {
		ask := &prompter{passphrases: []string{"wrong", "open sesame"}}
		p := newPool(t, Options{HostKeyCheck: "off", Prompt: ask, Identities: []string{key}, Streams: 2})
		r, err := connect(t, p, s.target())
		if err != nil {
			t.Fatal(err)
		}
		lane, err := r.server.open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = lane.Close()
		if got := ask.questions(); len(got) != 2 || !strings.Contains(got[0], key) {
			t.Errorf("asked %q", got)
		}
	})
	t.Run("three times at most", func(t *testing.T) {
		ask := &prompter{passphrases: []string{"a", "b", "c", "open sesame"}}
		p := newPool(t, Options{HostKeyCheck: "off", Prompt: ask, Identities: []string{key}})
		if _, err := connect(t, p, s.target()); !errors.Is(err, auth.ErrAuth) || !errors.Is(err, auth.ErrPassphrase) {
			t.Errorf("Connect = %v", err)
		}
	})
	t.Run("the next key is tried", func(t *testing.T) {
		p := newPool(t, Options{HostKeyCheck: "off", Identities: []string{key, writeKey(t, t.TempDir(), "k", "")}})
		if _, err := connect(t, p, s.target()); err != nil {
			t.Error(err)
		}
	})
}

func TestFurtherConnectionsStopAtARefusal(t *testing.T) {
	s := passwordServer()
	s.most = 2
	s.start(t)
	p := newPool(t, Options{HostKeyCheck: "off", Prompt: &prompter{answers: []string{"secret"}}, Streams: 5})
	r, err := connect(t, p, s.target())
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		lane, err := r.server.open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = lane.Close() }()
	}
	if s.count() != 3 {
		t.Errorf("the server saw %d connections, want 3: two it took and one it refused", s.count())
	}
}

func TestSessionsOfAConnectionAreLimited(t *testing.T) {
	s := passwordServer()
	s.channel = 2
	s.start(t)
	p := newPool(t, Options{HostKeyCheck: "off", Prompt: &prompter{answers: []string{"secret"}}, Streams: 1})
	r, err := connect(t, p, s.target())
	if err != nil {
		t.Fatal(err)
	}
	lane, err := r.server.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lane.Close() }()
	if _, err := r.server.open(t.Context()); err == nil {
		t.Error("a third lane was opened where the server allows two")
	}
	if _, err := r.server.open(t.Context()); err == nil || !strings.Contains(err.Error(), "MaxSessions") {
		t.Errorf("open = %v", err)
	}
}

func TestLostConnectionIsMadeAnew(t *testing.T) {
	s := passwordServer()
	s.start(t)
	ask := &prompter{answers: []string{"secret"}}
	p := newPool(t, Options{HostKeyCheck: "off", Prompt: ask, Streams: 1})
	r, err := connect(t, p, s.target())
	if err != nil {
		t.Fatal(err)
	}
	lane, err := r.server.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.cut()
	if _, err := lane.Read(make([]byte, 1)); err == nil {
		t.Fatal("a lane of a lost connection reads on")
	}
	_ = lane.Close()
	<-r.server.links[0].dead
	if lane, err = r.server.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = lane.Close()
	if len(ask.questions()) != 1 || s.count() != 2 {
		t.Errorf("%d questions, %d connections", len(ask.questions()), s.count())
	}
	_ = s.listener.Close()
	s.cut()
	<-r.server.links[0].dead
	_, err = r.server.open(t.Context())
	if !errors.Is(err, tree.ErrLost) || errors.Is(err, ErrConnect) {
		t.Errorf("dialling a server that has gone = %v, want ErrLost and not ErrConnect", err)
	}
}

func TestServerWithoutSFTP(t *testing.T) {
	s := passwordServer()
	s.noSFTP = true
	s.start(t)
	p := newPool(t, Options{HostKeyCheck: "off", Prompt: &prompter{answers: []string{"secret"}}})
	_, err := connect(t, p, s.target())
	var hint Hinter
	if !errors.Is(err, ErrConnect) || !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "Subsystem") {
		t.Errorf("Connect = %v", err)
	}
}

func TestServersThatAreNone(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(net.Conn)
		says string
	}{
		{"silent", func(c net.Conn) { _, _ = c.Read(make([]byte, 1<<16)); _, _ = c.Read(make([]byte, 1)) }, "did not go on within"},
		{"closes", func(net.Conn) {}, "closed the connection before the login"},
		{"another protocol", func(c net.Conn) { _, _ = c.Write([]byte("220 mail\r\n" + strings.Repeat("x", 300) + "\r\n")) }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var lc net.ListenConfig
			l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				if c, err := l.Accept(); err == nil {
					tt.do(c)
					_ = c.Close()
				}
			}()
			p := newPool(t, Options{HostKeyCheck: "off", Timeout: 300 * time.Millisecond})
			_, err = connect(t, p, "ssh://me@"+l.Addr().String()+"/")
			if !errors.Is(err, ErrConnect) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Connect = %v", err)
			}
			_ = l.Close()
			<-done
		})
	}
}

func TestConnectEndsWithItsContext(t *testing.T) {
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if c, err := l.Accept(); err == nil {
			cancel()
			_, _ = c.Read(make([]byte, 1<<16))
			_, _ = c.Read(make([]byte, 1))
			_ = c.Close()
		}
	}()
	p := newPool(t, Options{HostKeyCheck: "off"})
	target, err := ParseTarget("ssh://me@" + l.Addr().String() + "/")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Connect(ctx, target); !errors.Is(err, context.Canceled) || errors.Is(err, ErrConnect) {
		t.Errorf("Connect = %v", err)
	}
	_ = l.Close()
	<-done
}

func TestOnePoolConnectionForOneServer(t *testing.T) {
	s := passwordServer()
	s.start(t)
	p := newPool(t, Options{HostKeyCheck: "off", Prompt: &prompter{answers: []string{"secret"}}})
	a, err := connect(t, p, s.target()+"a")
	if err != nil {
		t.Fatal(err)
	}
	b, err := connect(t, p, s.target()+"b")
	if err != nil || a != b || s.count() != 1 {
		t.Errorf("Connect = %p and %p, %v; %d connections", a, b, err, s.count())
	}
	_ = p.Close()
	if _, err := connect(t, p, s.target()); !errors.Is(err, tree.ErrClosed) {
		t.Errorf("Connect after Close = %v", err)
	}
}

func TestChangedHostKeyGetsNoPassword(t *testing.T) {
	s := passwordServer()
	s.start(t)
	known := filepath.Join(t.TempDir(), "known_hosts")
	line := "[127.0.0.1]:" + strconv.Itoa(s.addr.Port) + " " + string(ssh.MarshalAuthorizedKey(newSigner(t).PublicKey()))
	if err := os.WriteFile(known, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	ask := &prompter{answers: []string{"secret"}}
	p := newPool(t, Options{HostKeyCheck: "off", KnownHosts: known, Prompt: ask})
	if _, err := connect(t, p, s.target()); !errors.Is(err, auth.ErrAuth) || len(ask.questions()) != 0 {
		t.Errorf("Connect = %v, asked %q", err, ask.questions())
	}
}

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"plain\tü\n":        "plain\tü\n",
		"a\x1b[2Jb":         `a\033[2Jb`,
		"\xff\x00":          `\377\000`,
		"line\r\nbare\rend": "line\nbare\\015end",
		"\u202e":            `\342\200\256`,
		"\ufffd":            "\ufffd",
	} {
		if got := escape(in); got != want {
			t.Errorf("escape(%q) = %q, want %q", in, got, want)
		}
	}
	if got := len(escape(strings.Repeat("x", 1<<20))); got != maxBanner {
		t.Errorf("escape of 1 MiB has %d bytes", got)
	}
}
