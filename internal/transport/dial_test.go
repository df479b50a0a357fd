package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"transferd/auth"
	"transferd/internal/testnet"
	"transferd/internal/tree"
)

func TestConnectErrorsNameTheNextStep(t *testing.T) {
	dial := func(err error) error {
		return &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{}, Err: err}
	}
	s := settings{alias: "scope", host: "10.0.3.7", port: 22, network: "tcp", timeout: time.Minute}
	high := s
	high.port = 2022
	six := s
	six.network = "tcp6"
	for _, tt := range []struct {
		name       string
		s          settings
		err        error
		says, hint string
	}{
		{"refused on 22", s, dial(os.NewSyscallError("connect", syscall.ECONNREFUSED)), "10.0.3.7:22 (scope): connection refused", "-P 2022"},
		{"refused elsewhere", high, dial(syscall.ECONNREFUSED), "connection refused", "port 2022"},
		{"no such name", s, dial(&net.DNSError{Err: "no such host", Name: "10.0.3.7", IsNotFound: true}), "no host is called 10.0.3.7", "hosts:"},
		{"no such name with -6", six, dial(&net.DNSError{Err: "no such host", IsNotFound: true}), "no host", "-4 or -6"},
		{"name service", s, dial(&net.DNSError{Err: "server misbehaving"}), "server misbehaving", "name service"},
		{"timeout", s, dial(os.ErrDeadlineExceeded), "no answer within 1m0s", "--timeout"},
		{"timeout of the context", s, context.DeadlineExceeded, "no answer", "firewall"},
		{"timeout of the kernel", s, dial(syscall.ETIMEDOUT), "no answer", "firewall"},
		{"unreachable", s, dial(syscall.ENETUNREACH), "network is unreachable", ""},
		{"behind a jump host", s, &ssh.OpenChannelError{Reason: ssh.Prohibited, Message: "no"}, "10.0.3.7:22", "AllowTcpForwarding"},
	} {
		err := connectError(tt.s, tt.err)
		var hinter Hinter
		if !errors.Is(err, ErrConnect) || !strings.Contains(err.Error(), tt.says) || !errors.As(err, &hinter) || !strings.Contains(hinter.Hint(), tt.hint) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestNoCommonAlgorithm(t *testing.T) {
	s := passwordServer()
	s.config.Ciphers = []string{ssh.CipherAES256CTR}
	s.start(t)
	_, err := connect(t, newPool(t, Options{HostKeyCheck: "off", Ciphers: ssh.CipherAES128GCM}), s.target())
	if !errors.Is(err, ErrConnect) || errors.Is(err, auth.ErrAuth) || !strings.Contains(err.Error(), ssh.CipherAES256CTR) {
		t.Errorf("Connect = %v", err)
	}
}

// TestDeadLinkIsNoticed pulls the cable between a whole client and server.
func TestDeadLinkIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := testnet.Pipe()
		config := &ssh.ServerConfig{NoClientAuth: true}
		config.AddHostKey(newSigner(t))
		served := make(chan struct{})
		go func() {
			defer close(served)
			s := &fakeServer{config: *config}
			s.serve(far)
			s.group.Wait()
		}()
		v := newServer(settings{
			alias: "h", host: "192.0.2.2", port: 22, user: "me", policy: auth.PolicyOff, timeout: time.Minute,
			interval: keepaliveInterval, unanswered: keepaliveMax,
		}, Options{}, "", &shared{}, newTestLog(t))
		l, err := v.handshake(t.Context(), near, false)
		if err != nil {
			t.Fatal(err)
		}
		v.links = append(v.links, l)
		lane, err := l.openLane(t.Context(), sftpSubsystem())
		if err != nil {
			t.Fatal(err)
		}

		// An idle hour is no reason to give up a link that answers.
		<-time.After(time.Hour)
		if !l.alive() {
			t.Fatal("an idle link was given up")
		}

		near.Stall()
		far.Stall()
		start := time.Now()
		_, err = lane.Read(make([]byte, 1))
		if took := time.Since(start); !errors.Is(err, tree.ErrLost) || took > 15*time.Second {
			t.Errorf("Read = %v after %v, want ErrLost within 15 s", err, took)
		}
		if _, err := l.openLane(t.Context(), sftpSubsystem()); !errors.Is(err, tree.ErrLost) {
			t.Errorf("openLane on a dead link = %v", err)
		}
		_ = lane.Close()
		v.close()
		far.Cut()
		<-served
	})
}

func TestPoolCloseEndsLanes(t *testing.T) {
	s := passwordServer()
	s.start(t)
	p := newPool(t, Options{HostKeyCheck: "off", Prompt: &prompter{answers: []string{"secret"}}})
	r, err := connect(t, p, s.target())
	if err != nil {
		t.Fatal(err)
	}
	lane, err := r.server.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	_, _ = io.ReadAll(lane) // it returns, with whatever error
	if _, err := r.server.open(t.Context()); !errors.Is(err, tree.ErrClosed) {
		t.Errorf("open after Close = %v", err)
	}
}
