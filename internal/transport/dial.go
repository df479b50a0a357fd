package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"transferd/internal/wire"
)

// dialTCP connects to the server, by way of the SSH connection via if that is
// not nil.
func (v *server) dialTCP(ctx context.Context, via *ssh.Client) (net.Conn, error) {
	start := time.Now()
	conn, err := v.dialAddress(ctx, via, joinHostPort(v.s.host, v.s.port))
	if err == nil && via == nil {
		v.trip = time.Since(start)
		v.reached = addrPort(conn.RemoteAddr()).Addr().Unmap().String()
	}
	return conn, err
}

// timed returns ctx with the end of a step of a connection.
func (v *server) timed(ctx context.Context) (context.Context, context.CancelFunc) {
	if v.s.timeout <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, v.s.timeout)
}

func (v *server) dialAddress(ctx context.Context, via *ssh.Client, addr string) (net.Conn, error) {
	s := v.s
	timed, cancel := v.timed(ctx)
	defer cancel()
	var conn net.Conn
	var err error
	if via != nil {
		conn, err = via.DialContext(timed, "tcp", addr)
	} else {
		var dialer net.Dialer
		conn, err = dialer.DialContext(timed, s.network, addr)
	}
	switch {
	case err == nil && via != nil:
		return conn, nil // its bytes are counted on the jump host's connection
	case err == nil:
		wire.Tune(conn)
		return wire.Limit(conn, v.with.pace), nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("connect to %s: %w", addr, context.Cause(ctx))
	}
	return nil, connectError(s, err)
}

// connectError says for people why s cannot be reached.
func connectError(s settings, err error) error {
	p := &problem{kind: ErrConnect, text: "connect to " + where(s)}
	var dns *net.DNSError
	var refused *ssh.OpenChannelError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		p.text += fmt.Sprintf(": no host is called %s", s.host)
		p.hint = "check the name; short names can be given an address under hosts: in the configuration, or in ~/.ssh/config"
		if s.network != "tcp" {
			p.hint = "the name may have addresses of the other family only: leave out -4 or -6"
		}
	case errors.As(err, &dns):
		p.cause = fmt.Errorf("look up %s: %s", s.host, dns.Err)
		p.hint = "the name service does not answer: check the network, or use an address"
	case errors.As(err, &refused):
		p.cause = err
		p.hint = "the jump host (-J) is reached but does not lead further: it may forbid forwarding (AllowTcpForwarding), or nothing listens there"
	case isRefused(err):
		p.text += ": connection refused"
		p.hint = refusedHint(s)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		p.text += fmt.Sprintf(": no answer within %v", s.timeout)
		p.hint = "the machine may be off or behind a firewall; --timeout sets how long to wait"
	default:
		var op *net.OpError
		var family *net.AddrError
		if errors.As(err, &family) && s.network != "tcp" {
			p.hint = "the address is of the other family: leave out -4 or -6"
		}
		p.cause = err
		if errors.As(err, &op) {
			p.cause = op.Err // the address is in the text already
		}
	}
	return p
}

// jumpError says that err is about the jump host s, which may be all that is
// wrong with it.
func jumpError(s settings, err error) error {
	if !errors.Is(err, ErrConnect) {
		return fmt.Errorf("jump host %s: %w", s.label(), err)
	}
	return &problem{
		kind: ErrConnect, text: "jump host " + s.label(), cause: err,
		hint: "check the jump host: -J [user@]host[:port], or ProxyJump in ~/.ssh/config; -P is not its port",
	}
}

func refusedHint(s settings) string {
	switch {
	case s.way == wayTCP:
		return fmt.Sprintf("nothing listens on port %d there; a transferd listens on 2023 (tcp) and 2022 (ssh): check the port, and that it runs", s.port)
	case s.port == defaultPort:
		return "no SSH server listens there; a transferd listens on 2022 (ssh) and 2023 (tcp): try -P 2022, or tcp://"
	}
	return fmt.Sprintf("nothing listens on port %d there; check -P (a transferd listens on 2022 for ssh and 2023 for tcp, sshd on 22), and that the server runs", s.port)
}

// where names s for errors, with the alias by which the person knows it.
func where(s settings) string {
	addr := joinHostPort(s.host, s.port)
	if s.alias != s.host {
		addr += " (" + s.alias + ")"
	}
	return addr
}

func isRefused(err error) bool {
	// Windows has numbers of its own, which package syscall does not map.
	const wsaConnRefused = syscall.Errno(10061)
	return errors.Is(err, syscall.ECONNREFUSED) ||
		runtime.GOOS == "windows" && errors.Is(err, wsaConnRefused)
}

// handshakeError says for people why the SSH handshake with s ended before the
// login.
func handshakeError(s settings, err error, timedOut bool) error {
	p := &problem{kind: ErrConnect, text: "connect to " + where(s)}
	var algorithms *ssh.AlgorithmNegotiationError
	switch {
	case timedOut:
		p.text += fmt.Sprintf(": the server took the connection but did not go on within %v", s.timeout)
		p.hint = "it may be overloaded, or no SSH server; --timeout sets how long to wait"
	case errors.As(err, &algorithms):
		p.cause = algorithms
		p.hint = "the server is too old, or allows too little; what is broken (SHA-1, DSA) is not offered here"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.ErrUnexpectedEOF):
		p.text += ": the server closed the connection before the login"
		p.hint = "it may have too many connections (MaxStartups), have shut this address out for a while (PerSourcePenalties), or be no SSH server (a transferd speaks SSH on 2022, and tcp:// on 2023)"
	default:
		p.cause = err
		p.hint = "check that an SSH server listens there"
	}
	return p
}
