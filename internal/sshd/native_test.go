package sshd

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"transferd/internal/testnet"
	"transferd/protocol"
)

// A stream is a channel on which the native protocol is spoken by hand.
type stream struct {
	client *ssh.Client
	*ssh.Session
	in     io.WriteCloser
	frames *protocol.Reader
}

// openStream opens a channel with the subsystem, and has the prefaces exchanged.
func openStream(client *ssh.Client) (*stream, error) {
	session, err := client.NewSession()
	if err != nil {
		return nil, err
	}
	s := &stream{client: client, Session: session}
	stderr, err := session.StderrPipe()
	if err != nil {
		return nil, err
	}
	in, err := session.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := session.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.in, s.frames = in, protocol.NewReader(out, protocol.MaxFrame)
	if err := session.RequestSubsystem(protocol.Subsystem); err != nil {
		return nil, err
	}
	_, _ = io.WriteString(in, protocol.Preface) // a refusal may have come before
	preface := make([]byte, len(protocol.Preface))
	if _, err := io.ReadFull(out, preface); err != nil {
		said, _ := io.ReadAll(stderr)
		return nil, fmt.Errorf("%w: %s", err, said)
	}
	return s, nil
}

func (s *stream) send(id uint64, m protocol.Message) error {
	frame, err := protocol.Append(nil, id, m)
	if err != nil {
		return err
	}
	_, err = s.in.Write(frame)
	return err
}

// receive returns the next message; PING it answers.
func (s *stream) receive() (protocol.Message, error) {
	for {
		h, err := s.frames.Next()
		if err != nil {
			return nil, err
		}
		body, err := s.frames.Body(nil)
		if err != nil {
			return nil, err
		}
		m, err := protocol.Decode(h.Type, body)
		ping, ok := m.(*protocol.Ping)
		if !ok || err != nil {
			return m, err
		}
		if err := s.send(0, &protocol.Pong{Nonce: ping.Nonce}); err != nil {
			return nil, err
		}
	}
}

// begin begins a session.
func (s *stream) begin() (*protocol.Welcome, error) {
	if err := s.send(0, &protocol.Hello{MinVersion: 1, MaxVersion: 1, MaxData: protocol.MaxData}); err != nil {
		return nil, err
	}
	if m, err := s.receive(); err != nil {
		return nil, fmt.Errorf("SERVER_HELLO: %T, %w", m, err)
	}
	m, err := s.receive()
	w, ok := m.(*protocol.Welcome)
	if !ok {
		return nil, fmt.Errorf("WELCOME: %T %+v, %w", m, m, err)
	}
	return w, err
}

// join joins the session of w.
func (s *stream) join(w *protocol.Welcome, n uint32) (protocol.Message, error) {
	mac := hmac.New(sha256.New, w.Secret[:])
	mac.Write(protocol.JoinMessage(protocol.RoleClient, protocol.BindingSSH, s.client.SessionID(), w.Session, n))
	if err := s.send(0, &protocol.Join{Session: w.Session, Stream: n, MAC: [32]byte(mac.Sum(nil))}); err != nil {
		return nil, err
	}
	return s.receive()
}

func (s *stream) works(id uint64) error {
	if err := s.send(id, &protocol.Stat{Place: protocol.Place{Path: "file"}}); err != nil {
		return err
	}
	m, err := s.receive()
	if _, ok := m.(*protocol.Found); !ok {
		return fmt.Errorf("answer to STAT: %T %+v, %w", m, m, err)
	}
	return err
}

// nativeSession is alice's session on a new connection.
func (r *rig) nativeSession() (*stream, *protocol.Welcome, *testnet.Conn) {
	r.t.Helper()
	client, conn := r.login()
	s, err := openStream(client)
	if err != nil {
		r.t.Fatal(err)
	}
	w, err := s.begin()
	if err != nil {
		r.t.Fatal(err)
	}
	return s, w, conn
}

func TestNativeSubsystem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Limits{})
		r.run(func() {
			s, w, _ := r.nativeSession()
			defer func() { _ = s.client.Close() }()
			if w.User != "alice" || w.Binding != protocol.BindingSSH || w.Flags != protocol.WelcomeConfined || w.TCPPort != 0 {
				t.Errorf("WELCOME = %+v", w)
			}
			further, err := openStream(s.client)
			if err != nil {
				t.Fatal(err)
			}
			if m, err := further.join(w, 1); err != nil {
				t.Errorf("JOIN: %T, %v", m, err)
			} else if _, ok := m.(*protocol.Joined); !ok {
				t.Errorf("JOIN: %T %+v", m, m)
			}
			for i, one := range []*stream{s, further} {
				if err := one.works(uint64(i + 1)); err != nil {
					t.Errorf("stream %d: %v", i, err)
				}
			}
			files, err := sftpChannel(s.client)
			if err != nil {
				t.Fatal(err)
			}
			if err := files.lstat("/file"); err != nil {
				t.Error(err)
			}
			if kind, _, err := files.receive(); err != nil || kind != 105 {
				t.Errorf("SFTP beside it: %d, %v", kind, err)
			}
			if r.opened != 1 {
				t.Errorf("%d sessions were opened for one connection", r.opened)
			}
			// A session that ends in order leaves the connection as it is.
			if err := s.send(0, &protocol.Goodbye{Code: protocol.CodeDone}); err != nil {
				t.Error(err)
			}
			_, _ = io.Copy(io.Discard, s.frames)
			again, err := openStream(s.client)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := again.begin(); err != nil {
				t.Errorf("a second session on the connection: %v", err)
			}
		})
	})
}

// A ticket is good on the SSH connection of its session alone, and as long as
// the key that logged in is.
func TestNativeJoins(t *testing.T) {
	tests := []struct {
		name    string
		other   bool // on another connection
		options string
		after   time.Duration
		ok      bool
	}{
		{"same connection", false, "", 0, true},
		{"another connection", true, "", 0, false},
		{"while the key is good", false, `expiry-time="20000103" `, 24 * time.Hour, true},
		{"after it has expired", false, `expiry-time="20000103" `, 72 * time.Hour, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Limits{})
				r.lines["alice"] = test.options + authorizedLine(r.key)
				r.run(func() {
					s, w, _ := r.nativeSession()
					defer func() { _ = s.client.Close() }()
					heard := make(chan protocol.Message, 1)
					go func() { m, _ := s.receive(); heard <- m }()
					<-time.After(test.after)
					client := s.client
					if test.other {
						client, _ = r.login()
						defer func() { _ = client.Close() }()
					}
					further, err := openStream(client)
					if err != nil {
						t.Fatal(err)
					}
					m, err := further.join(w, 1)
					if _, ok := m.(*protocol.Joined); ok != test.ok || err != nil {
						t.Errorf("JOIN: %T %+v, %v; want it to work: %t", m, m, err, test.ok)
					}
					_ = s.client.Close()
					<-heard
				})
			})
		})
	}
}

func TestNativeRefused(t *testing.T) {
	tests := []struct {
		name    string
		options string
		none    bool // there is no native server
		want    string
	}{
		{"not served", "", true, confined},
		{"key for another command", `command="uptime" `, false, "bound to another command"},
		{"key for internal-sftp", `command="internal-sftp" `, false, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Limits{})
				r.lines["alice"] = test.options + authorizedLine(r.key)
				if test.none {
					r.server.native = nil
				}
				r.run(func() {
					client, _ := r.login()
					defer func() { _ = client.Close() }()
					s, err := openStream(client)
					switch {
					case test.want == "" && err == nil:
						_, err = s.begin()
						if err != nil {
							t.Error(err)
						}
					case test.want == "" || err == nil || !strings.Contains(err.Error(), test.want):
						t.Errorf("subsystem: %v, want %q", err, test.want)
					}
					if test.want != "" && r.opened != 0 {
						t.Error("a session was opened all the same")
					}
				})
			})
		})
	}
}

// Native sessions have an idle timeout of their own, and no other.
func TestNativeIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Limits{IdleTimeout: 10 * time.Minute})
		r.run(func() {
			s, _, _ := r.nativeSession()
			defer func() { _ = s.client.Close() }()
			start := time.Now()
			for i := range uint64(4) {
				if err := s.works(i + 1); err != nil {
					t.Fatalf("after %v: %v", time.Since(start), err)
				}
				if i < 3 {
					waitAnswering(t, s, 9*time.Minute)
				}
			}
			start = time.Now()
			m, err := s.receive() // answers PING, and asks for nothing
			if bye, ok := m.(*protocol.Goodbye); !ok || bye.Code != protocol.CodeIdle {
				t.Errorf("%T %+v, %v; want GOODBYE with IDLE", m, m, err)
			}
			if took := time.Since(start); took < 9*time.Minute || took > 12*time.Minute {
				t.Errorf("an idle session ended after %v", took)
			}
		})
	})
}

// waitAnswering lets d pass and answers PING meanwhile.
func waitAnswering(t *testing.T, s *stream, d time.Duration) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		h, err := s.frames.Next()
		if err != nil || h.Type != protocol.TypePing {
			t.Fatalf("%v, %v; want PING", h.Type, err)
		}
		if err := s.send(0, &protocol.Pong{}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNativeShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Limits{})
		r.run(func() {
			s, _, _ := r.nativeSession()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			ended := make(chan error, 2)
			go func() { ended <- r.native.Shutdown(ctx) }()
			go func() { ended <- r.server.Shutdown(ctx) }()
			m, err := s.receive()
			if bye, ok := m.(*protocol.Goodbye); !ok || bye.Code != protocol.CodeShutdown {
				t.Errorf("%T %+v, %v; want GOODBYE with SHUTDOWN", m, m, err)
			}
			_ = s.client.Wait()
			if err := errors.Join(<-ended, <-ended); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
			if ctx.Err() != nil {
				t.Error("it had to be cut off")
			}
		})
	})
}

// A client that is dead, or answers nothing any more, is gone with its session.
func TestNativeDeadClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Limits{})
		r.run(func() {
			s, _, conn := r.nativeSession()
			conn.Stall()
			start := time.Now()
			_ = s.client.Wait() // the server's end closes, which still arrives
			if took := time.Since(start); took < protocol.DeadAfter*time.Second || took > time.Minute {
				t.Errorf("a dead client was noticed after %v", took)
			}
			_ = s.client.Close()
		})
	})
}
