package transport

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
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
	"transferd/protocol"
)

// makeKey writes a new private key, and returns its file and public half.
func makeKey(t *testing.T) (string, ssh.PublicKey) {
	t.Helper()
	key, err := auth.GenerateKey("ed25519", 0, "test")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key")
	if err := auth.WriteKeyPair(file, key, nil, 0, false); err != nil {
		t.Fatal(err)
	}
	public, err := key.Public()
	if err != nil {
		t.Fatal(err)
	}
	return file, public.Key
}

// knows writes a known_hosts that has key for the address, and returns its name.
func knows(t *testing.T, port int, key ssh.PublicKey) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "known_hosts")
	line := "[127.0.0.1]:" + strconv.Itoa(port) + " " + string(ssh.MarshalAuthorizedKey(key))
	if err := os.WriteFile(file, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestLoginOverTCP(t *testing.T) {
	file, public := makeKey(t)
	other, _ := makeKey(t)
	peer := newNativePeer(t, public)
	l := peer.listen(t)
	var log bytes.Buffer
	p := newPool(t, Options{
		KnownHosts: knows(t, l.port, peer.host.PublicKey()), Identities: []string{other, file},
		Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	r, err := connect(t, p, l.target())
	if err != nil {
		t.Fatal(err)
	}
	home, err := r.Home(t.Context())
	if err != nil || home != "home/lab" || r.Transport() != "tcp" {
		t.Errorf("Home = %q, %v; Transport = %q", home, err, r.Transport())
	}
	if e, err := r.Stat(t.Context(), "x"); err != nil || !e.IsDir() {
		t.Errorf("Stat = %+v, %v", e, err)
	}
	if diff := cmp.Diff([]string{"lab"}, peer.users); diff != "" {
		t.Error(diff)
	}
	if strings.Count(log.String(), "logged in") != 1 || !strings.Contains(log.String(), "name=tcp") {
		t.Errorf("the log does not say what was chosen:\n%s", &log)
	}
	for _, able := range []bool{is[tree.Putter](r.Tree()), is[tree.Getter](r.Tree()), is[tree.Summer](r.Tree()), is[tree.Xattrer](r.Tree())} {
		if !able {
			t.Error("the tree does not show what it is able to do")
		}
	}
}

func is[T any](v any) bool {
	_, ok := v.(T)
	return ok
}

func TestHostKeysOverTCP(t *testing.T) {
	file, public := makeKey(t)
	peer := newNativePeer(t, public)
	forger := newNativePeer(t, public)
	forger.host, forger.forge = peer.host, true
	l, fake := peer.listen(t), forger.listen(t)
	known := knows(t, l.port, peer.host.PublicKey())
	elsewhere := knows(t, 1, peer.host.PublicKey())
	for _, tt := range []struct {
		name, known, check string
		at                 *nativeListener
		words              []string
		ok                 bool
		says               string
	}{
		{"known", known, "strict", l, nil, true, ""},
		{"unknown", elsewhere, "strict", l, nil, false, "SHA256:"},
		{"changed", knows(t, l.port, newSigner(t).PublicKey()), "accept-new", l, nil, false, "CHANGED"},
		{"accept-new", filepath.Join(t.TempDir(), "new"), "accept-new", l, nil, true, ""},
		{"no", elsewhere, "ask", l, []string{"no"}, false, "you said no"},
		{"yes, known under another name", elsewhere, "ask", l, []string{"yes"}, true, "[127.0.0.1]:1"},
		{"not proved", knows(t, fake.port, peer.host.PublicKey()), "off", fake, nil, false, "does not prove"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ask := &prompter{words: tt.words}
			p := newPool(t, Options{KnownHosts: tt.known, HostKeyCheck: tt.check, Prompt: ask, Identities: []string{file}})
			_, err := connect(t, p, tt.at.target())
			asked := strings.Join(ask.questions(), "")
			switch {
			case tt.ok && err != nil:
				t.Errorf("Connect = %v", err)
			case tt.ok && !strings.Contains(asked, tt.says):
				t.Errorf("asked %q, which does not say %q", asked, tt.says)
			case !tt.ok && (!errors.Is(err, auth.ErrHostKey) || !strings.Contains(err.Error(), tt.says)):
				t.Errorf("Connect = %v, want ErrHostKey that says %q", err, tt.says)
			}
		})
	}
	if users := forger.users; len(users) > 0 {
		t.Error("a server that proved nothing got a proof")
	}
}

func TestRefusalsOverTCP(t *testing.T) {
	file, public := makeKey(t)
	for _, tt := range []struct {
		name    string
		keys    []ssh.PublicKey
		refuse  protocol.Code
		goodbye protocol.Code
		is      error
		says    string // in the error or its hint
	}{
		{"unknown key", nil, 0, 0, auth.ErrAuth, "authorized_keys"},
		{"refused key", []ssh.PublicKey{public}, protocol.CodeAuth, 0, auth.ErrAuth, "tried " + file},
		{"more than a key", []ssh.PublicKey{public}, protocol.CodeMoreAuth, 0, auth.ErrAuth, "ssh://"},
		{"a key for a command", []ssh.PublicKey{public}, protocol.CodeRestricted, 0, auth.ErrAuth, "command="},
		{"no host key", nil, 0, protocol.CodeNoHostKey, auth.ErrHostKey, "ed25519"},
		{"full", nil, 0, protocol.CodeLimit, ErrConnect, "no place"},
		{"ending", nil, 0, protocol.CodeShutdown, ErrConnect, "about to end"},
		{"other version", nil, 0, protocol.CodeVersion, ErrConnect, "another version"},
		{"something else", nil, 0, protocol.CodeFailure, ErrConnect, "so it is"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			peer := newNativePeer(t, tt.keys...)
			peer.refuse, peer.goodbye = tt.refuse, tt.goodbye
			l := peer.listen(t)
			p := newPool(t, Options{KnownHosts: knows(t, l.port, peer.host.PublicKey()), Identities: []string{file}})
			_, err := connect(t, p, l.target())
			hint := ""
			if h := Hinter(nil); errors.As(err, &h) {
				hint = h.Hint()
			}
			if !errors.Is(err, tt.is) || !strings.Contains(err.Error()+hint, tt.says) || hint == "" && tt.says != "so it is" {
				t.Errorf("Connect = %v (hint: %s), want %v that says %q", err, hint, tt.is, tt.says)
			}
		})
	}
}

func TestWhatListensIsNoTransferd(t *testing.T) {
	say := func(text string) func(net.Conn) {
		return func(conn net.Conn) {
			_, _ = io.WriteString(conn, text)
			_, _ = conn.Read(make([]byte, 1<<10)) // or the rest would be lost with a reset
		}
	}
	closed := listen(t, "127.0.0.1:0", func(net.Conn) {})
	closed.close()
	for _, tt := range []struct {
		name string
		at   *nativeListener
		says string
	}{
		{"ssh", listen(t, "127.0.0.1:0", say("SSH-2.0-OpenSSH_9.9\r\n")), "SSH server|ssh://127.0.0.1"},
		{"http", listen(t, "127.0.0.1:0", say("HTTP/1.1 400 Bad Request\r\n\r\n")), "web server|2023"},
		{"something", listen(t, "127.0.0.1:0", say("220 ftp ready\r\n")), "no transferd|2023"},
		{"closes", listen(t, "127.0.0.1:0", func(net.Conn) {}), "closed the connection|2023"},
		{"mute", listen(t, "127.0.0.1:0", func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }), "within 1ms|--timeout"},
		{"nothing", closed, "refused|2023 (tcp) and 2022 (ssh)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := Options{HostKeyCheck: "off"}
			if tt.name == "mute" {
				o.Timeout = time.Millisecond
			}
			_, err := connect(t, newPool(t, o), tt.at.target())
			hint := ""
			if h := Hinter(nil); errors.As(err, &h) {
				hint = h.Hint()
			}
			for says := range strings.SplitSeq(tt.says, "|") {
				if !errors.Is(err, ErrConnect) || errors.Is(err, tree.ErrLost) || !strings.Contains(err.Error()+hint, says) {
					t.Errorf("Connect = %v (hint: %s), want ErrConnect that says %q", err, hint, says)
				}
			}
		})
	}
}

func TestTCPIsLostAndFound(t *testing.T) {
	file, public := makeKey(t)
	peer := newNativePeer(t, public)
	l := peer.listen(t)
	p := newPool(t, Options{KnownHosts: knows(t, l.port, peer.host.PublicKey()), Identities: []string{file}})
	r, err := connect(t, p, l.target())
	if err != nil {
		t.Fatal(err)
	}
	l.cut()
	// One call may still find the old connection.
	for range 2 {
		if _, err = r.Stat(t.Context(), "x"); err == nil {
			break
		}
	}
	if sessions, _ := peer.counts(); err != nil || sessions != 2 {
		t.Errorf("Stat after the connection was cut = %v, %d sessions", err, sessions)
	}
	l.close()
	for range 2 {
		if _, err = r.Stat(t.Context(), "x"); err == nil || !errors.Is(err, tree.ErrLost) {
			t.Errorf("Stat while the server is gone = %v, want ErrLost", err)
		}
	}
}
