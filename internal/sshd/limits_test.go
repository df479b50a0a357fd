package sshd

import (
	"context"
	"crypto/rand"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"transferd/internal/testnet"
)

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
					var clients []*ssh.Client
					for _, from := range test.from {
						conn, err := r.listener.DialFrom(t.Context(), from)
						if err != nil {
							t.Fatal(err)
						}
						client, _, err := r.handshake(conn, "alice", r.key)
						if err != nil {
							t.Fatal(err)
						}
						defer func() { _ = client.Close() }()
						clients = append(clients, client)
						synctest.Wait() // the server counts it before the next comes
					}
					_, err := sftpChannel(clients[2])
					if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
						t.Errorf("third connection: %v, want %q", err, test.want)
					}
					_ = clients[0].Close()
					synctest.Wait()
					again, _ := r.login()
					if _, err := sftpChannel(again); err != nil {
						t.Errorf("after one has left: %v", err)
					}
					_ = again.Close()
				})
			})
		})
	}
}

func TestStalledHandshakesAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Limits{HandshakeTimeout: 20 * time.Second})
		r.run(func() {
			conn, err := r.listener.Dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if _, err := io.Copy(io.Discard, conn); err != nil {
				t.Errorf("the end of a stalled handshake: %v", err)
			}
			if took := time.Since(start); took < 20*time.Second || took > 22*time.Second {
				t.Errorf("a stalled handshake was dropped after %v", took)
			}
			_ = conn.Close()
		})
	})
}

// A person who is asked whether the host's key is right may take a minute, and
// the session knows nothing of that deadline.
func TestAPersonHasTimeToCompareTheHostKey(t *testing.T) {
	for _, kind := range []string{"plain", "algorithm", "multi"} {
		for took, ok := range map[time.Duration]bool{70 * time.Second: true, 90 * time.Second: false} {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Limits{HandshakeTimeout: 20 * time.Second})
				switch kind {
				case "plain":
					r.server.hostKeys = []ssh.Signer{struct{ ssh.Signer }{r.hostKey}}
				case "multi":
					multi, err := ssh.NewSignerWithAlgorithms(r.hostKey.(ssh.AlgorithmSigner), []string{ssh.KeyAlgoED25519})
					if err != nil {
						t.Fatal(err)
					}
					r.server.hostKeys = []ssh.Signer{multi}
				}
				r.run(func() {
					conn, err := r.listener.Dial(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					c, channels, requests, err := ssh.NewClientConn(conn, "server", &ssh.ClientConfig{
						User: "alice",
						Auth: []ssh.AuthMethod{ssh.PublicKeys(r.key)},
						HostKeyCallback: func(string, net.Addr, ssh.PublicKey) error {
							<-time.After(took)
							return nil
						},
					})
					if (err == nil) != ok {
						t.Errorf("%s: login after %v: %v, want it to work: %t", kind, took, err, ok)
					}
					if err != nil {
						_ = conn.Close()
						return
					}
					client := ssh.NewClient(c, channels, requests)
					defer func() { _ = client.Close() }()
					<-time.After(time.Minute)
					if _, err := sftpChannel(client); err != nil {
						t.Errorf("%s: a minute later: %v", kind, err)
					}
				})
			})
		}
	}
}

func TestAThousandStalledHandshakesKeepNobodyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Limits{Handshakes: 100, HandshakeTimeout: time.Hour})
		r.run(func() {
			var stalled []*testnet.Conn
			for range 1000 {
				conn, err := r.listener.DialFrom(t.Context(), "198.51.100.7")
				if err != nil {
					t.Fatal(err)
				}
				stalled = append(stalled, conn)
			}
			synctest.Wait()
			client, _ := r.login()
			if _, err := sftpChannel(client); err != nil {
				t.Error(err)
			}
			if r.server.handshakes.Len() > 100 {
				t.Errorf("%d handshakes are pending, the limit is 100", r.server.handshakes.Len())
			}
			_ = client.Close()
			for _, conn := range stalled {
				_ = conn.Close()
			}
		})
	})
}

func TestADeadClientIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Limits{IdleTimeout: time.Hour})
		r.run(func() {
			client, conn := r.login()
			if _, err := sftpChannel(client); err != nil {
				t.Fatal(err)
			}
			conn.Stall()
			start := time.Now()
			_ = client.Wait() // the server's end closes, which still arrives
			if took := time.Since(start); took < 15*time.Second || took > 45*time.Second {
				t.Errorf("a dead client was noticed after %v", took)
			}
			_ = client.Close()
		})
	})
}

func TestAQuietClientThatLivesStaysUntilItIsIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Limits{IdleTimeout: 10 * time.Minute})
		r.run(func() {
			client, _ := r.login()
			if _, err := sftpChannel(client); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			_ = client.Wait()
			if took := time.Since(start); took < 10*time.Minute || took > 11*time.Minute {
				t.Errorf("an idle client was dropped after %v", took)
			}
			_ = client.Close()
		})
	})
}

func TestWithoutAnIdleTimeoutAQuietClientStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Limits{})
		r.run(func() {
			client, _ := r.login()
			ch, err := sftpChannel(client)
			if err != nil {
				t.Fatal(err)
			}
			<-time.After(24 * time.Hour)
			if err := ch.lstat("/file"); err != nil {
				t.Error(err)
			}
			if kind, _, err := ch.receive(); err != nil || kind != 105 {
				t.Errorf("after a day: %d, %v", kind, err)
			}
			_ = client.Close()
		})
	})
}

// What a peer does to its own connection, before or after the login, another
// session must not notice, and nothing may be left of it: the bubble ends only
// when every goroutine has.
func TestABadPeerHarmsNobody(t *testing.T) {
	plain := func(do func(*testnet.Conn)) func(*rig) {
		return func(r *rig) {
			conn, err := r.listener.Dial(context.Background())
			if err != nil {
				r.t.Fatal(err)
			}
			do(conn)
			synctest.Wait()
			_ = conn.Close()
		}
	}
	peers := map[string]func(*rig){
		"hangs up":      plain(func(*testnet.Conn) {}),
		"is reset":      plain(func(c *testnet.Conn) { c.Cut() }),
		"sends garbage": plain(func(c *testnet.Conn) { _, _ = io.CopyN(c, rand.Reader, 64<<10) }),
		"sends an HTTP request": plain(func(c *testnet.Conn) {
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		}),
		"sends garbage after its version": plain(func(c *testnet.Conn) {
			_, _ = io.WriteString(c, "SSH-2.0-x\r\n")
			_, _ = io.CopyN(c, rand.Reader, 64<<10)
		}),
		"never ends its version": plain(func(c *testnet.Conn) {
			_, _ = io.WriteString(c, strings.Repeat("x", 100<<10))
		}),
		"claims a huge packet": plain(func(c *testnet.Conn) {
			_, _ = io.WriteString(c, "SSH-2.0-x\r\n\xff\xff\xff\xff\x00")
		}),
		"is cut while logging in": func(r *rig) {
			for _, after := range []int64{10, 100, 1000, 1700, 2000, 2500} {
				conn, err := r.listener.Dial(context.Background())
				if err != nil {
					r.t.Fatal(err)
				}
				conn.CutAfter(after)
				if client, _, err := r.handshake(conn, "alice", r.key); err == nil {
					_ = client.Close()
				}
			}
		},
		"flips a bit while logging in": func(r *rig) {
			for _, after := range []int64{3, 30, 300, 1500, 1800, 2100} {
				conn, err := r.listener.Dial(context.Background())
				if err != nil {
					r.t.Fatal(err)
				}
				_ = conn.SetDeadline(time.Now().Add(time.Minute)) // a flipped length makes both wait
				conn.FlipAfter(after)
				if client, _, err := r.handshake(conn, "alice", r.key); err == nil {
					_ = client.Close()
				}
			}
		},
		"flips a bit after the login": func(r *rig) {
			client, conn := r.login()
			ch, err := sftpChannel(client)
			if err != nil {
				r.t.Fatal(err)
			}
			conn.FlipAfter(3)
			_ = ch.lstat("/file")
			_, _, _ = ch.receive()
			_ = client.Close()
		},
		"sends garbage as sftp": func(r *rig) {
			client, _ := r.login()
			ch, err := sftpChannel(client)
			if err != nil {
				r.t.Fatal(err)
			}
			_, _ = ch.in.Write([]byte("\xff\xff\xff\xffgarbage"))
			_, _, _ = ch.receive()
			_ = client.Close()
		},
		"dies in a request": func(r *rig) {
			client, conn := r.login()
			ch, err := sftpChannel(client)
			if err != nil {
				r.t.Fatal(err)
			}
			_, _ = ch.in.Write([]byte("\x00\x00\x00\x20\x07"))
			synctest.Wait()
			conn.Cut()
			_ = client.Close()
		},
		"opens channels and does nothing": func(r *rig) {
			client, conn := r.login()
			for range 5 {
				if _, err := client.NewSession(); err != nil {
					r.t.Error(err)
				}
			}
			conn.Cut()
			_ = client.Close()
		},
		"sends a request without a name": func(r *rig) {
			client, _ := r.login()
			ch, err := client.NewSession()
			if err != nil {
				r.t.Fatal(err)
			}
			// A malformed request payload.
			if ok, err := ch.SendRequest("subsystem", true, []byte{0xff, 0xff}); err != nil || !ok {
				r.t.Errorf("a subsystem without a name: %v, %v; want it taken and refused", ok, err)
			}
			_ = client.Close()
		},
	}
	for name, misbehave := range peers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Limits{HandshakeTimeout: 2 * time.Minute, IdleTimeout: time.Hour})
				r.run(func() {
					good, _ := r.login()
					ch, err := sftpChannel(good)
					if err != nil {
						t.Fatal(err)
					}
					misbehave(r)
					if err := ch.lstat("/file"); err != nil {
						t.Error(err)
					}
					if kind, _, err := ch.receive(); err != nil || kind != 105 {
						t.Errorf("the good session got %d, %v", kind, err)
					}
					_ = good.Close()
				})
				if strings.Contains(r.log.String(), "panic") {
					t.Errorf("something panicked:\n%s", r.log)
				}
			})
		})
	}
}
