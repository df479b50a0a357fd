package transport

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/crypto/ssh"

	"transferd/auth"
	"transferd/internal/wire"
)

// clientVersion is what we call ourselves in the first line of a connection.
const clientVersion = "SSH-2.0-transfer"

// handshake makes conn, which it owns from now on, into a link: it agrees on
// algorithms, checks the host key and logs in. With again nobody is asked.
func (v *server) handshake(ctx context.Context, conn net.Conn, again bool) (*link, error) {
	w := wire.New(conn)
	w.Grow()
	clock := newGuard(v.s.timeout, w.Abort)
	stop := context.AfterFunc(ctx, w.Abort)
	v.asker = &asker{turn: &v.with.turn, clock: clock}
	if v.s.ask && !again {
		v.asker.prompt = v.o.Prompt
	}
	l := &login{
		s: v.s, asker: v.asker, log: v.log, mem: v.mem, again: again,
		identities: v.identities,
		alive:      func() bool { return !w.Broken() },
	}
	check := v.checkHost(ctx, l, clock)
	config, err := v.clientConfig(ctx, l, check, again)
	if err != nil {
		stop()
		clock.release()
		_ = w.Close()
		<-w.Done()
		return nil, err
	}
	c, chans, reqs, err := ssh.NewClientConn(w, v.s.trustName(), config)
	late := clock.release()
	interrupted := !stop()
	switch {
	case err == nil && !interrupted && !late:
		v.mem.keep(l)
		v.entered = true
		v.logConnection(c, l)
		return startLink(c, chans, reqs, w, v.s, v.log), nil
	case err == nil:
		_ = c.Close() // it was ended at the very last moment
		go ssh.DiscardRequests(reqs)
		for ch := range chans {
			_ = ch.Reject(ssh.Prohibited, "")
		}
		err = net.ErrClosed
	default:
		_ = w.Close() // x/crypto has; this waits for the writer
		<-w.Done()
	}
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("connect to %s: %w", v.s.label(), context.Cause(ctx))
	case check.err != nil:
		return nil, check.err
	case late:
		return nil, handshakeError(v.s, err, true)
	case l.began && !connectionEnded(err):
		return nil, l.refused(err)
	}
	return nil, handshakeError(v.s, err, false)
}

// connectionEnded tells the end of a connection from the refusal of a login.
func connectionEnded(err error) bool {
	var op *net.OpError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.As(err, &op)
}

// hostCheck is what became of the host key.
type hostCheck struct {
	callback ssh.HostKeyCallback
	err      error
}

// checkHost prepares the decision about the host key, which known_hosts and the
// person make.
func (v *server) checkHost(ctx context.Context, l *login, clock *guard) *hostCheck {
	check := &hostCheck{}
	check.callback = func(addr string, _ net.Addr, key ssh.PublicKey) error {
		v.log.DebugContext(ctx, "host key", "server", v.s.label(), "key", describeKey(key))
		trust, err := v.trust.Check(ctx, addr, key)
		if err != nil {
			check.err = fmt.Errorf("connect to %s: %w", where(v.s), err)
			return check.err
		}
		l.trusted = trust != auth.TrustOverridden
		clock.resume() // the login is a step of its own
		return nil
	}
	return check
}

// warn tells the person about a host key. With -q, which leaves no Stderr, it
// is for the log.
func (v *server) warn(msg string) {
	if v.o.Stderr == nil {
		v.log.Warn("host key", "text", msg)
		return
	}
	_, _ = fmt.Fprintln(v.o.Stderr, escape(msg)) // nothing is lost that the log could save
}

func (v *server) clientConfig(ctx context.Context, l *login, check *hostCheck, again bool) (*ssh.ClientConfig, error) {
	hostKeys, err := v.trust.Algorithms(v.s.trustName())
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", where(v.s), err)
	}
	algorithms := auth.ClientAlgorithms()
	if v.s.ciphers != nil {
		algorithms.Ciphers = v.s.ciphers
	}
	config := &ssh.ClientConfig{
		Config: ssh.Config{
			KeyExchanges: algorithms.KeyExchanges,
			Ciphers:      algorithms.Ciphers,
			MACs:         algorithms.MACs,
		},
		User:              v.s.user,
		ClientVersion:     clientVersion,
		HostKeyAlgorithms: hostKeys,
		HostKeyCallback:   check.callback,
		AuthCallback:      l.callback(ctx),
		BannerCallback: func(text string) error {
			if !again && v.o.Stderr != nil {
				_, _ = io.WriteString(v.o.Stderr, escape(text)) // a banner is worth no failure
			}
			return nil
		},
	}
	return config, nil
}

// logConnection tells, for -v, how the connection came to be.
func (v *server) logConnection(c ssh.Conn, l *login) {
	attrs := []any{
		"server", v.s.label(), "address", c.RemoteAddr().String(), "version", escape(string(c.ServerVersion())),
	}
	if m, ok := c.(ssh.AlgorithmsConnMetadata); ok {
		a := m.Algorithms()
		attrs = append(attrs, "key_exchange", a.KeyExchange, "host_key", a.HostKey, "cipher", a.Read.Cipher, "mac", cmp.Or(a.Read.MAC, "aead"))
	}
	if l.signed != nil {
		attrs = append(attrs, "identity", l.signed.name)
	}
	v.log.Info("logged in", attrs...)
}
