package tcpd

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"transferd/internal/admission"
	"transferd/internal/testnet"
	"transferd/protocol"
)

// join asks to join the session of w as stream n.
func (p *peer) join(w *protocol.Welcome, n uint32) (protocol.Message, error) {
	p.t.Helper()
	p.preface()
	mac := hmac.New(sha256.New, w.Secret[:])
	mac.Write(protocol.JoinMessage(protocol.RoleClient, protocol.BindingTLS, p.exporter(protocol.LabelJoin), w.Session, n))
	p.send(&protocol.Join{Session: w.Session, Stream: n, MAC: [32]byte(mac.Sum(nil))})
	m, _, err := p.receive()
	return m, err
}

func TestJoin(t *testing.T) {
	tests := []struct {
		name   string
		line   string // of authorized_keys at the join; "": as at the login, "-": none
		from   string
		after  time.Duration
		change func(*protocol.Welcome)
		want   protocol.Code // 0: joined
	}{
		{"good", "", "192.0.2.1", 0, nil, 0},
		{"from elsewhere, which nothing forbids", "", "198.51.100.7", 0, nil, 0},
		{"from= of here", `from="192.0.2.0/24" `, "192.0.2.1", 0, nil, 0},
		{"from= of elsewhere", `from="192.0.2.0/24" `, "198.51.100.7", 0, nil, protocol.CodeJoin},
		{"expired since", `expiry-time="20000102" `, "192.0.2.1", 48 * time.Hour, nil, protocol.CodeJoin},
		{"key taken away since", "-", "192.0.2.1", 0, nil, protocol.CodeJoin},
		{"wrong secret", "", "192.0.2.1", 0, func(w *protocol.Welcome) { w.Secret[0] ^= 1 }, protocol.CodeJoin},
		{"unknown session", "", "192.0.2.1", 0, func(w *protocol.Welcome) { w.Session[0] ^= 1 }, protocol.CodeJoin},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Limits{Connections: 1, HandshakeTimeout: 20 * time.Second})
				good := r.lines["alice"]
				if test.line != "-" {
					r.lines["alice"] = test.line + good
				}
				r.run(func() {
					control, w := r.login()
					defer control.close()
					live(control)
					if test.line == "-" {
						r.mu.Lock()
						r.lines["alice"] = ""
						r.mu.Unlock()
					}
					<-time.After(test.after)
					if test.change != nil {
						test.change(w)
					}
					p := r.dialFrom(test.from)
					defer p.close()
					m, err := p.join(w, 1)
					if _, ok := m.(*protocol.Joined); ok != (test.want == 0) || codeOf(m) != test.want {
						t.Fatalf("answer to JOIN: %T %+v, %v; want %v\n%s", m, m, err, test.want, r.log)
					}
					if test.want == 0 {
						if err := p.works(1); err != nil {
							t.Error(err)
						}
					}
				})
			})
		})
	}
}

// live keeps the session on p alive while the bubble sleeps, and hears nothing
// of it any more.
func live(p *peer) {
	p.alive.Go(func() {
		ticker := time.NewTicker(protocol.PingAfter * time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				p.send(&protocol.Ping{})
			case <-p.closed:
				return
			}
		}
	})
	p.alive.Go(func() { _, _ = io.Copy(io.Discard, p.tls) })
}

// A session outlives the time of its handshake, and so does a joined stream.
func TestSessionsOutliveTheHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Limits{HandshakeTimeout: 20 * time.Second})
		r.run(func() {
			control, w := r.login()
			defer control.close()
			p := r.dial()
			defer p.close()
			if m, err := p.join(w, 1); codeOf(m) != 0 || err != nil {
				t.Fatalf("JOIN: %T %+v, %v", m, m, err)
			}
			for i, one := range []*peer{control, p} {
				if err := one.works(uint64(i + 1)); err != nil {
					t.Error(err)
				}
			}
			<-time.After(14 * time.Second)
			for i, one := range []*peer{control, p} {
				if err := one.works(uint64(i + 11)); err != nil {
					t.Error(err)
				}
			}
			<-time.After(14 * time.Second)
			for i, one := range []*peer{control, p} {
				if err := one.works(uint64(i + 21)); err != nil {
					t.Errorf("28 s after the beginning: %v", err)
				}
			}
		})
	})
}

func TestConnectionLimitsAreToldToTheClient(t *testing.T) {
	tests := []struct {
		name   string
		limits Limits
		from   [3]string
		want   string
	}{
		{"connections", Limits{Connections: 2}, [3]string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}, "limit of 2 connections"},
		{"per source", Limits{PerSource: 2}, [3]string{"192.0.2.1", "192.0.2.1", "192.0.2.1"}, "192.0.2.1 has its limit"},
		{"per source, others", Limits{PerSource: 2}, [3]string{"192.0.2.1", "192.0.2.1", "192.0.2.9"}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, test.limits)
				r.run(func() {
					var first *peer
					for i, from := range test.from {
						p := r.dialFrom(from)
						defer p.close()
						p.greet()
						m, err := p.prove("alice", r.key)
						if i == 0 {
							first = p
						}
						if i < 2 || test.want == "" {
							if _, ok := m.(*protocol.Welcome); !ok {
								t.Errorf("connection %d: %T %+v, %v", i, m, m, err)
							}
							continue
						}
						if bye, ok := m.(*protocol.Goodbye); !ok || bye.Code != protocol.CodeLimit || !strings.Contains(bye.Message, test.want) {
							t.Errorf("third connection: %T %+v, %v; want %q", m, m, err, test.want)
						}
					}
					first.close()
					synctest.Wait()
					again, _ := r.login()
					again.close()
				})
			})
		})
	}
}

func TestHandshakesHaveTheirTime(t *testing.T) {
	const limit = 20 * time.Second
	tests := []struct {
		name string
		do   func(r *rig) (wait func())
		want time.Duration
	}{
		{"says nothing", func(r *rig) func() {
			conn, err := r.listener.Dial(r.t.Context())
			if err != nil {
				r.t.Fatal(err)
			}
			return func() { _, _ = io.Copy(io.Discard, conn); _ = conn.Close() }
		}, limit},
		{"a byte every second", func(r *rig) func() {
			conn, err := r.listener.Dial(r.t.Context())
			if err != nil {
				r.t.Fatal(err)
			}
			return func() {
				for _, b := range []byte("\x16\x03\x01\x02\x00" + strings.Repeat("\x01", 500)) {
					if _, err := conn.Write([]byte{b}); err != nil {
						break
					}
					<-time.After(time.Second)
				}
				_ = conn.Close()
			}
		}, limit},
		{"nothing behind TLS", func(r *rig) func() {
			p := r.dial()
			return func() { _, _ = io.Copy(io.Discard, p.tls); p.close() }
		}, limit},
		{"somebody compares the host's key", func(r *rig) func() {
			p := r.dial()
			p.greet()
			return func() { _, _ = io.Copy(io.Discard, p.tls); p.close() }
		}, limit + admission.ForPerson},
		{"a join that goes no further", func(r *rig) func() {
			control, w := r.login()
			live(control)
			p := r.dial()
			if m, err := p.join(w, 1); codeOf(m) != 0 || err != nil {
				r.t.Errorf("JOIN: %T %+v, %v", m, m, err)
			}
			return func() { _, _ = io.Copy(io.Discard, p.tls); p.close(); control.close() }
		}, limit},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Limits{HandshakeTimeout: limit})
				r.run(func() {
					start := time.Now()
					test.do(r)()
					if took := time.Since(start); took < test.want || took > test.want+3*time.Second {
						t.Errorf("dropped after %v, want %v", took, test.want)
					}
				})
				if n := strings.Count(r.log.String(), "level=INFO"); n > 0 && !strings.Contains(test.name, "join") {
					t.Errorf("strangers fill the log:\n%s", r.log)
				}
			})
		})
	}
}

func TestAThousandHalfOpenConnectionsKeepNobodyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Limits{Handshakes: 100, HandshakeTimeout: time.Hour})
		r.run(func() {
			var stalled []net.Conn
			for i := range 1000 {
				conn, err := r.listener.DialFrom(t.Context(), "198.51.100.7")
				if err != nil {
					t.Fatal(err)
				}
				stalled = append(stalled, conn)
				if i%10 == 0 { // some get further than others
					_, _ = conn.Write([]byte("\x16\x03\x01\x02\x00\x01"))
				}
			}
			synctest.Wait()
			p, _ := r.login()
			if err := p.works(1); err != nil {
				t.Error(err)
			}
			if n := r.server.pool.Len(); n > 100 {
				t.Errorf("%d handshakes are pending, the limit is 100", n)
			}
			p.close()
			for _, conn := range stalled {
				_ = conn.Close()
			}
		})
		if n := strings.Count(r.log.String(), "level=INFO"); n > 2 { // login, logout
			t.Errorf("strangers wrote %d lines", n)
		}
	})
}

// TestTLS is what is asked of it besides a key.
func TestTLS(t *testing.T) {
	tests := []struct {
		name   string
		change func(*tls.Config)
		ok     bool
	}{
		{"as it should be", func(*tls.Config) {}, true},
		{"TLS 1.2", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }, false},
		{"no ALPN", func(c *tls.Config) { c.NextProtos = nil }, false},
		{"another ALPN", func(c *tls.Config) { c.NextProtos = []string{"h2", "http/1.1"} }, false},
		{"ours and another", func(c *tls.Config) { c.NextProtos = []string{"h2", protocol.ALPN} }, false},
		{"a name that it does not have", func(c *tls.Config) { c.ServerName = "example.com" }, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Limits{})
				r.run(func() {
					conn, err := r.listener.Dial(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					config := clientTLS()
					config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
					test.change(config)
					c := tls.Client(conn, config)
					err = c.Handshake()
					if err == nil {
						// What the server thinks of a client shows behind it in TLS 1.3.
						_, err = c.Read(make([]byte, 1))
					}
					if (err == nil) != test.ok {
						t.Errorf("TLS: %v, want success: %t", err, test.ok)
					}
					if test.ok {
						if state := c.ConnectionState(); state.NegotiatedProtocol != protocol.ALPN || state.Version != tls.VersionTLS13 {
							t.Errorf("agreed on %q, %x", state.NegotiatedProtocol, state.Version)
						}
						if _, ok := config.ClientSessionCache.Get("example.com"); ok {
							t.Error("the server gave a ticket")
						}
					}
					_ = c.Close()
				})
				if strings.Contains(r.log.String(), "level=INFO") || strings.Contains(r.log.String(), "level=WARN") {
					t.Errorf("strangers fill the log:\n%s", r.log)
				}
			})
		})
	}
}

// What somebody says who is at the wrong port ends his connection, and that
// only.
func TestOtherProtocols(t *testing.T) {
	peers := map[string]func(net.Conn) error{
		"hangs up": func(c net.Conn) error { return c.Close() },
		"HTTP": func(c net.Conn) error {
			request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://server/", nil)
			return errors.Join(err, request.Write(c))
		},
		"SSH": func(c net.Conn) error {
			_, _, _, err := ssh.NewClientConn(c, "server", &ssh.ClientConfig{HostKeyCallback: ssh.InsecureIgnoreHostKey()})
			if err == nil {
				return errors.New("SSH worked")
			}
			return nil
		},
		"garbage": func(c net.Conn) error { _, _ = io.CopyN(c, rand.Reader, 64<<10); return nil },
		"a record of its own length": func(c net.Conn) error {
			_, err := io.WriteString(c, "\x16\x03\x01\xff\xff")
			return err
		},
	}
	behind := map[string]func(p *peer){
		"HTTP behind TLS": func(p *peer) { _, _ = io.WriteString(p.tls, "GET / HTTP/1.1\r\nHost: x\r\n\r\n") },
		"a huge frame": func(p *peer) {
			_, _ = io.WriteString(p.tls, protocol.Preface+"\xff\xff\xff\xff\x01\x00\x00\x00\x00\x00\x00\x00\x00")
		},
		"a request before the login": func(p *peer) {
			p.preface()
			p.request(1, &protocol.Stat{Place: protocol.Place{Path: "file"}})
		},
		"WELCOME": func(p *peer) {
			p.greet()
			p.send(&protocol.Welcome{Streams: 1, Operations: 16, Handles: 16, Window: protocol.MinWindow, Home: "."})
		},
		"JOIN behind HELLO": func(p *peer) {
			p.greet()
			p.send(&protocol.Join{})
		},
	}
	for name, do := range behind {
		peers[name] = func(c net.Conn) error {
			p := &peer{t: t, tls: tls.Client(c, clientTLS()), closed: make(chan struct{})}
			if err := p.tls.Handshake(); err != nil {
				return err
			}
			p.frames = protocol.NewReader(p.tls, protocol.MaxFrame)
			p.hello = protocol.Hello{MinVersion: 1, MaxVersion: 1, MaxData: protocol.MaxData, Algorithms: []string{ssh.KeyAlgoED25519}}
			do(p)
			_, err := io.Copy(io.Discard, p.tls)
			return err
		}
	}
	for name, misbehave := range peers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Limits{HandshakeTimeout: 20 * time.Second})
				r.run(func() {
					good, _ := r.login()
					defer good.close()
					conn, err := r.listener.Dial(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					start := time.Now()
					if err := misbehave(conn); err != nil && !errors.Is(err, io.EOF) {
						t.Errorf("%v", err)
					}
					_, _ = io.Copy(io.Discard, conn)
					_ = conn.Close()
					if took := time.Since(start); took > 2*time.Second {
						t.Errorf("it took %v to be rid of it", took)
					}
					if err := good.works(1); err != nil {
						t.Errorf("the good session: %v", err)
					}
				})
				if n := strings.Count(r.log.String(), "level=INFO") + strings.Count(r.log.String(), "level=WARN"); n > 2 {
					t.Errorf("strangers fill the log:\n%s", r.log)
				}
			})
		})
	}
}

// Shutdown ends those that are not done in time, and says so.
func TestShutdownCutsWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Limits{})
		r.run(func() {
			p, _ := r.login()
			defer p.close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := r.server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Shutdown = %v, want that it was late", err)
			}
			_, _ = io.Copy(io.Discard, p.tls) // ends
		})
	})
}

var _ net.Conn = (*testnet.Conn)(nil)
