package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"transferd/auth"
	"transferd/internal/testnet"
	"transferd/protocol"
)

// nativeOverSSH is a server whose subsystem and TCP port both speak our protocol.
func nativeOverSSH(t *testing.T) (*fakeServer, *nativePeer) {
	t.Helper()
	peer := newNativePeer(t)
	peer.host = nil
	peer.welcome.Binding = protocol.BindingSSH
	s := passwordServer()
	s.native = peer
	s.start(t)
	return s, peer
}

func sshOptions() Options {
	return Options{HostKeyCheck: "off", Prompt: &prompter{answers: []string{"secret"}}}
}

func TestTheBestThatSSHOffers(t *testing.T) {
	peer := func(rw io.ReadWriter) {
		p := newNativePeer(t)
		p.host, p.welcome.Binding = nil, protocol.BindingStdio
		_, _ = io.WriteString(rw, "Welcome to this machine\n"+strings.Repeat("noise\n", 1000))
		p.serve(rw, protocol.BindingStdio, nil)
	}
	missing := func(rw io.ReadWriter) { _, _ = io.WriteString(rw, "sh: transferd: not found\n") }
	for _, tt := range []struct {
		name      string
		native    bool
		commands  map[string]func(io.ReadWriter)
		transport string
		command   string
		want      string // Transport; "": none
		asked     []string
	}{
		{"subsystem", true, nil, "", "", "ssh", []string{"subsystem transfer"}},
		{
			"command", false,
			map[string]func(io.ReadWriter){"transferd stdio": peer},
			"", "", "ssh",
			[]string{"subsystem transfer", "exec transferd stdio"},
		},
		{
			"other command", false,
			map[string]func(io.ReadWriter){"~/bin/t stdio": peer},
			"", "~/bin/t", "ssh",
			[]string{"subsystem transfer", "exec ~/bin/t stdio"},
		},
		{
			"neither", false, nil, "", "", "sftp",
			[]string{"subsystem transfer", "exec transferd stdio", "subsystem sftp"},
		},
		{
			"no such command", false,
			map[string]func(io.ReadWriter){"transferd stdio": missing},
			"", "", "sftp",
			[]string{"subsystem transfer", "exec transferd stdio", "subsystem sftp"},
		},
		{
			"neither, and SFTP not wanted", false,
			map[string]func(io.ReadWriter){"transferd stdio": missing},
			"ssh", "", "",
			[]string{"subsystem transfer", "exec transferd stdio"},
		},
		{"SFTP wanted", true, nil, "sftp", "", "sftp", []string{"subsystem sftp"}},
		{"SSH wanted", true, nil, "ssh", "", "ssh", []string{"subsystem transfer"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := passwordServer()
			s.commands = tt.commands
			if tt.native {
				s.native = newNativePeer(t)
				s.native.host = nil
			}
			s.start(t)
			o := sshOptions()
			o.Transport, o.Streams = tt.transport, 1
			o.Hosts = []Host{{Name: "127.0.0.1", RemoteCommand: tt.command}}
			r, err := connect(t, newPool(t, o), s.target())
			switch {
			case tt.want == "" && (!errors.Is(err, ErrConnect) || !strings.Contains(err.Error(), "does not speak our protocol")):
				t.Errorf("Connect = %v", err)
			case tt.want != "" && err != nil:
				t.Errorf("Connect = %v", err)
			case tt.want != "" && r.Transport() != tt.want:
				t.Errorf("Transport = %q, want %q", r.Transport(), tt.want)
			}
			s.mu.Lock()
			asked := slices.Clone(s.asked)
			s.mu.Unlock()
			if diff := cmp.Diff(tt.asked, asked); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
			if s.count() != 1 {
				t.Errorf("%d connections, want one", s.count())
			}
		})
	}
}

// A command that was forced by authorized_keys runs in the place of ours, and
// may wait for something else for ever.
func TestAServerThatStartsSomethingElseCostsLittle(t *testing.T) {
	for _, tt := range []struct {
		name      string
		subsystem bool // it takes any for SFTP
	}{{"command", false}, {"subsystem", true}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := testnet.Pipe()
				s := &fakeServer{anything: tt.subsystem, commands: map[string]func(io.ReadWriter){
					"transferd stdio": func(rw io.ReadWriter) { _, _ = io.Copy(io.Discard, rw) },
				}}
				s.config.NoClientAuth = true
				s.config.AddHostKey(newSigner(t))
				s.group.Go(func() { s.serve(far) })
				v := newServer(settings{
					alias: "h", host: "192.0.2.2", port: 22, user: "me", policy: auth.PolicyOff, timeout: time.Minute,
					way: wayAuto, command: defaultCommand,
				}, Options{Streams: 1}, "", &shared{}, newTestLog(t))
				l, err := v.handshake(t.Context(), near, false)
				if err != nil {
					t.Fatal(err)
				}
				v.links = append(v.links, l)
				start := time.Now()
				f, err := v.connectFiles(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); f.Transport() != "sftp" || took > 2*startWithin+time.Second {
					t.Errorf("%s after %v", f.Transport(), took)
				}
				if err := f.Close(); err != nil {
					t.Error(err)
				}
				v.close()
				s.group.Wait()
			})
		})
	}
}

// A login script of the account may run for ever, and sshd keeps its channel open
// so long. The connection ends then, and nobody may go on with it.
func TestAChannelThatIsNotClosedEndsItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := testnet.Pipe()
		s := &fakeServer{}
		s.config.NoClientAuth = true
		s.config.AddHostKey(newSigner(t))
		s.group.Go(func() { s.serve(far) })
		v := newServer(settings{alias: "h", host: "192.0.2.2", port: 22, user: "me", policy: auth.PolicyOff},
			Options{}, "", &shared{}, newTestLog(t))
		l, err := v.handshake(t.Context(), near, false)
		if err != nil {
			t.Fatal(err)
		}
		open := &lane{link: l, ended: make(chan struct{})}
		open.part()
		if l.alive() {
			t.Error("the connection is taken for alive")
		}
		l.close()
		s.group.Wait()
	})
}

func TestNativeOverSSHIsLostAndFound(t *testing.T) {
	s, peer := nativeOverSSH(t)
	r, err := connect(t, newPool(t, sshOptions()), s.target())
	if err != nil {
		t.Fatal(err)
	}
	s.cut()
	for range 2 {
		if _, err = r.Stat(t.Context(), "x"); err == nil {
			break
		}
	}
	if sessions, _ := peer.counts(); err != nil || sessions != 2 {
		t.Errorf("Stat after the connection was cut = %v, %d sessions", err, sessions)
	}
}

func TestJoins(t *testing.T) {
	file, public := makeKey(t)
	for _, tt := range []struct {
		name      string
		overTCP   bool // the session
		transport string
		change    func(w *protocol.Welcome)
		hosts     bool // the config file knows the port
		want      protocol.Binding
		says      string
	}{
		{name: "TCP", overTCP: true, want: protocol.BindingTLS},
		{name: "TCP by another port than it thinks", overTCP: true, change: func(w *protocol.Welcome) { w.TCPPort = 1 }, want: protocol.BindingTLS},
		{name: "TCP with another key", overTCP: true, change: func(w *protocol.Welcome) { w.TLSKey[0]++ }, says: "not the server of this session"},
		{name: "TCP without a port", overTCP: true, change: func(w *protocol.Welcome) { w.TLSKey = [32]byte{} }, says: "no TCP port"},
		{name: "SSH with TCP", want: protocol.BindingTLS},
		{name: "SSH with TCP at a port of the config file", hosts: true, change: func(w *protocol.Welcome) { w.TCPPort = 1 }, want: protocol.BindingTLS},
		{name: "SSH with TCP closed", change: func(w *protocol.Welcome) { w.TCPPort = 1 }, want: protocol.BindingSSH},
		{name: "SSH with another key", change: func(w *protocol.Welcome) { w.TLSKey[0]++ }, want: protocol.BindingSSH},
		{name: "SSH without TCP", change: func(w *protocol.Welcome) { w.TCPPort = 0 }, want: protocol.BindingSSH},
		{name: "SSH alone", transport: "ssh", want: protocol.BindingSSH},
		{name: "neither", change: func(w *protocol.Welcome) { w.TCPPort, w.Binding = 0, protocol.BindingNone }, says: "no further channels"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, peer := nativeOverSSH(t)
			over := newNativePeer(t, public)
			l := over.listen(t)
			peer.welcome.TLSKey, peer.welcome.TCPPort = over.welcome.TLSKey, uint16(l.port)
			o, target := sshOptions(), s.target()
			o.Transport = tt.transport
			if tt.hosts {
				o.Hosts = []Host{{Name: "127.0.0.1", TCPPort: l.port}}
			}
			if tt.overTCP {
				o = Options{HostKeyCheck: "off", Identities: []string{file}}
				target = l.target()
			}
			r, err := connect(t, newPool(t, o), target)
			if err != nil {
				t.Fatal(err)
			}
			welcome := peer.welcome
			if tt.change != nil {
				tt.change(&welcome)
			}
			st, err := r.server.join(t.Context(), &welcome)
			if tt.says != "" {
				if err == nil || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("join = %v, want an error that says %q", err, tt.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = st.Close() }()
			if st.Binding != tt.want || st.Binding == protocol.BindingTLS && st.Exporter == nil ||
				st.Binding == protocol.BindingSSH && !bytes.Equal(st.Bound, r.server.session.link.client.SessionID()) {
				t.Errorf("join = %+v, want binding %v", st, tt.want)
			}
		})
	}
}

func TestJoinsBehindAJumpHostStayOnSSH(t *testing.T) {
	s, peer := nativeOverSSH(t)
	l := peer.listen(t)
	r, err := connect(t, newPool(t, sshOptions()), s.target())
	if err != nil {
		t.Fatal(err)
	}
	welcome := peer.welcome
	welcome.TCPPort = uint16(l.port)
	r.server.s.jump = []settings{{}}
	st, err := r.server.join(context.WithoutCancel(t.Context()), &welcome)
	if err != nil || st.Binding != protocol.BindingSSH {
		t.Fatalf("join = %+v, %v", st, err)
	}
	_ = st.Close()
	r.server.s.jump = nil
}
