package sshd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"
)

func TestOnlySFTPIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Limits{})
		r.run(func() {
			client, _ := r.login()
			defer func() { _ = client.Close() }()
			starts := map[string]func(*ssh.Session) error{
				"exec":      func(s *ssh.Session) error { return s.Start("cat /etc/passwd") },
				"scp -O":    func(s *ssh.Session) error { return s.Start("scp -t /tmp") },
				"shell":     func(s *ssh.Session) error { return s.Shell() },
				"subsystem": func(s *ssh.Session) error { return errors.Join(s.RequestSubsystem("netconf"), errNoWait) },
			}
			for name, start := range starts {
				s, err := client.NewSession()
				if err != nil {
					t.Fatal(err)
				}
				var stderr bytes.Buffer
				s.Stderr = &stderr
				if err := start(s); errors.Is(err, errNoWait) {
					if err.Error() != errNoWait.Error() {
						t.Errorf("%s: %v", name, err)
					}
					continue // Wait is not for subsystems; see the real ssh in daemon's test
				} else if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if got := exitStatus(s.Wait()); got != 1 || !strings.Contains(stderr.String(), confined) {
					t.Errorf("%s: status %d, stderr %q", name, got, stderr.String())
				}
			}
			s, err := client.NewSession()
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Setenv("LANG", "C"); err == nil {
				t.Error("an environment variable was taken")
			}
			if _, err := client.Dial("tcp", "192.0.2.9:80"); err == nil || !strings.Contains(err.Error(), confined) {
				t.Errorf("forwarding: %v, want %q", err, confined)
			}
			if _, err := client.Listen("tcp", "127.0.0.1:0"); err == nil {
				t.Error("remote forwarding was given")
			}
		})
	})
}

var errNoWait = errors.New("no wait")

func TestSFTPWorksAndEndsWithStatusZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Limits{})
		r.run(func() {
			client, _ := r.login()
			defer func() { _ = client.Close() }()
			for range 2 { // channels share one session
				ch, err := sftpChannel(client)
				if err != nil {
					t.Fatalf("%v\n%s", err, r.log)
				}
				if err := ch.lstat("/file"); err != nil {
					t.Fatal(err)
				}
				if kind, body, err := ch.receive(); err != nil || kind != 105 { // ATTRS
					t.Errorf("answer to LSTAT: %d %q, %v", kind, body, err)
				}
				_ = ch.in.Close()
				if rest, err := io.ReadAll(ch.out); err != nil || len(rest) > 0 {
					t.Errorf("after our EOF: %q, %v", rest, err)
				}
			}
			if r.opened != 1 {
				t.Errorf("%d sessions opened for one connection", r.opened)
			}
		})
		if !strings.Contains(r.log.String(), "user=alice") || strings.Contains(r.log.String(), "user=alice user=alice") {
			t.Errorf("user is not in the log just once a line:\n%s", r.log)
		}
	})
}

func TestForcedCommand(t *testing.T) {
	tests := []struct {
		option string
		works  bool
	}{
		{`command="internal-sftp" `, true},
		{`restrict,command="internal-sftp" `, true},
		{`command="/usr/bin/backup" `, false},
		{`command="internal-sftp -R" `, false}, // taken as it stands, it would not be read-only
	}
	for _, test := range tests {
		t.Run(test.option, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Limits{})
				r.lines["alice"] = test.option + authorizedLine(r.key)
				r.run(func() {
					client, _ := r.login()
					defer func() { _ = client.Close() }()
					if _, err := sftpChannel(client); (err == nil) != test.works {
						t.Errorf("sftp: %v, want it to work: %v", err, test.works)
					}
					if !test.works && r.opened != 0 {
						t.Error("a session was opened for a key that is bound to another command")
					}
				})
			})
		})
	}
}

func TestChannelsAreCapped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Limits{})
		r.run(func() {
			client, _ := r.login()
			defer func() { _ = client.Close() }()
			var sessions []*ssh.Session
			for range maxChannels {
				s, err := client.NewSession()
				if err != nil {
					t.Fatal(err)
				}
				sessions = append(sessions, s)
			}
			if _, err := client.NewSession(); err == nil || !strings.Contains(err.Error(), "too many channels") {
				t.Errorf("channel %d: %v", maxChannels+1, err)
			}
			_ = sessions[0].Close()
			synctest.Wait()
			if _, err := client.NewSession(); err != nil {
				t.Errorf("after one was closed: %v", err)
			}
		})
	})
}

func TestNoMoreSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Limits{})
		r.run(func() {
			client, _ := r.login()
			defer func() { _ = client.Close() }()
			if _, _, err := client.SendRequest("no-more-sessions@openssh.com", true, nil); err != nil {
				t.Fatal(err)
			}
			if _, err := client.NewSession(); err == nil {
				t.Error("a session was given to a client that wanted no more")
			}
		})
	})
}

func TestAPanicEndsItsConnectionOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Limits{})
		r.run(func() {
			good, _ := r.login()
			ch, err := sftpChannel(good)
			if err != nil {
				t.Fatal(err)
			}
			r.mu.Lock()
			r.panics = true
			r.mu.Unlock()
			bad, _ := r.login()
			if _, err := sftpChannel(bad); err == nil {
				t.Error("a session was given although opening it panicked")
			}
			if err := ch.lstat("/file"); err != nil {
				t.Error(err)
			}
			if kind, _, err := ch.receive(); err != nil || kind != 105 {
				t.Errorf("the good session got %d, %v", kind, err)
			}
			_, _ = bad.Close(), good.Close()
		})
		if !strings.Contains(r.log.String(), "the test wants it") {
			t.Errorf("the panic is not in the log:\n%s", r.log)
		}
	})
}

func TestShutdownLetsARunningRequestFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Limits{})
		r.tree.gate = make(chan struct{})
		var answer byte
		var ended error
		r.run(func() {
			client, _ := r.login()
			ch, err := sftpChannel(client)
			if err != nil {
				t.Fatal(err)
			}
			if err := ch.lstat("/file"); err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(time.Second, func() { close(r.tree.gate) })
			go func() {
				answer, _, _ = ch.receive()
				ended = client.Wait()
			}()
			synctest.Wait() // the request is being answered now
		})
		synctest.Wait()
		if answer != 105 {
			t.Errorf("the running request was answered with %d, want ATTRS", answer)
		}
		if ended == nil {
			t.Error("the connection did not end")
		}
	})
}

func TestShutdownCutsWhatDoesNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Limits{})
		r.tree.gate = make(chan struct{}) // stays shut
		served := make(chan error, 1)
		go func() { served <- r.server.Serve(t.Context(), r.listener) }()
		client, conn := r.login()
		ch, err := sftpChannel(client)
		if err != nil {
			t.Fatal(err)
		}
		if err := ch.lstat("/file"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		conn.Stall() // nor does the client answer
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		if err := r.server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown = %v", err)
		}
		if took := time.Since(start); took > 12*time.Second {
			t.Errorf("Shutdown took %v", took)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		_ = client.Close()
	})
}

func TestShutdownInAHurryCutsNobodyWhoIsNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Limits{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := r.server.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown without clients = %v", err)
		}
	})
}

func TestServeAfterShutdownClosesItsListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Limits{})
		if err := r.server.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := r.server.Serve(t.Context(), r.listener); err != nil {
			t.Errorf("Serve = %v", err)
		}
		if _, err := r.listener.Dial(t.Context()); err == nil {
			t.Error("the listener is open")
		}
	})
}
