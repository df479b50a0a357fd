package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"transferd/auth"
	"transferd/internal/transport/native"
	"transferd/protocol"
)

// controlTCP opens a control stream over TCP; see native.ClientOptions.
func (v *server) controlTCP(ctx context.Context) (*native.Stream, native.Prover, error) {
	if err := v.lock(ctx); err != nil {
		return nil, nil, err
	}
	defer v.unlock()
	if v.closed {
		return nil, nil, v.closedError()
	}
	algorithms, err := v.trust.Algorithms(v.s.trustName())
	if err != nil {
		return nil, nil, fmt.Errorf("connect to %s: %w", where(v.s), err)
	}
	via, err := v.passage(ctx)
	if err != nil {
		return nil, nil, v.again(err)
	}
	v.log.DebugContext(ctx, "connecting", "server", v.s.label(), "jump", via != nil)
	conn, err := v.dialTCP(ctx, via)
	if err != nil {
		return nil, nil, v.again(err)
	}
	timed, cancel := v.timed(ctx)
	defer cancel()
	c, err := startTLS(timed, conn, nil, &v.streams)
	if ctx.Err() != nil && err != nil {
		return nil, nil, fmt.Errorf("connect to %s: %w", v.s.label(), context.Cause(ctx))
	}
	if err != nil {
		return nil, nil, v.again(tlsError(v.s, err))
	}
	c.clock = newGuard(v.s.timeout, c.wire.Abort)
	v.asker = &asker{turn: &v.with.turn, clock: c.clock}
	if v.s.ask {
		v.asker.prompt = v.o.Prompt
	}
	v.handshaken = c.clock
	p := &prover{server: v, algorithms: algorithms, clock: c.clock}
	st := c.stream()
	opened := st.Opened
	st.Opened = func() {
		opened()
		p.logConnection(c)
	}
	return st, p, nil
}

// A prover is the client's part of a login over TCP: it checks who the server
// is, and proves who we are by the keys that SSH would offer.
type prover struct {
	server     *server
	algorithms []string
	clock      *guard

	keys   []*candidate // offered
	tried  []string     // what was signed with, or could not be
	failed error        // why a key could not be used
	hidden int          // keys that could not be offered
}

// Algorithms implements native.Prover.
func (p *prover) Algorithms() []string { return p.algorithms }

// User implements native.Prover.
func (p *prover) User() string { return p.server.s.user }

// CheckHost implements native.Prover.
func (p *prover) CheckHost(ctx context.Context, key, signature, message []byte) error {
	s := p.server.s
	public, err := ssh.ParsePublicKey(key)
	if err != nil {
		return fmt.Errorf("connect to %s: %w: the server shows no key that can be read: %w", where(s), auth.ErrHostKey, err)
	}
	p.server.log.DebugContext(ctx, "host key", "server", s.label(), "key", describeKey(public))
	if _, err := auth.VerifyMessage(public, protocol.NamespaceHost, message, signature); err != nil {
		return &problem{
			kind: auth.ErrHostKey, cause: err,
			text: fmt.Sprintf("connect to %s: %v: the server does not prove that it holds %s", where(s), auth.ErrHostKey, describeKey(public)),
			hint: "somebody may stand between you and the server: do not go on before you know who",
		}
	}
	if _, err := p.server.trust.Check(ctx, s.trustName(), public); err != nil {
		return fmt.Errorf("connect to %s: %w", where(s), err)
	}
	p.clock.resume() // the login is a step of its own
	return nil
}

// Keys implements native.Prover.
func (p *prover) Keys(ctx context.Context) ([][]byte, error) {
	s := p.server.s
	if !s.pubkey {
		return nil, usage("PubkeyAuthentication is off for %s, and tcp knows nothing else: write ssh://, or turn it on", s.label())
	}
	p.clock.pause()
	defer p.clock.resume()
	all, err := p.server.identities(ctx)
	if err != nil {
		return nil, err
	}
	all = p.revealed(ctx, all)
	if known := p.server.mem.identity(); known != nil {
		// What the server took before comes first: others may ask a person.
		all = slices.Concat([]*candidate{known}, slices.DeleteFunc(slices.Clone(all), func(c *candidate) bool { return c == known }))
	}
	p.keys = all[:min(len(all), maxOffers)]
	blobs := make([][]byte, len(p.keys))
	for i, key := range p.keys {
		blobs[i] = key.public.Marshal()
	}
	return blobs, nil
}

// revealed returns the keys whose public half is known, without which none can
// be offered. Where only a passphrase tells it, a person is asked, if the key was
// named or is the only one.
func (p *prover) revealed(ctx context.Context, all []*candidate) []*candidate {
	var known []*candidate
	for _, key := range all {
		if key.public == nil && len(all) > 1 && !slices.Contains(p.server.s.named, key.name) {
			p.hidden++
			p.server.log.DebugContext(ctx, "a locked key without its .pub is not offered", "key", key.name)
			continue
		}
		if key.public == nil {
			signer, err := key.signer(ctx)
			if err != nil {
				p.fail(key.name, err)
				continue
			}
			key = &candidate{name: key.name, public: signer.PublicKey(), signer: key.signer}
		}
		known = append(known, key)
	}
	return known
}

func (p *prover) fail(name string, err error) {
	if !slices.Contains(p.tried, name) {
		p.tried = append(p.tried, name)
	}
	p.failed = err
}

// Sign implements native.Prover.
func (p *prover) Sign(ctx context.Context, key, message []byte) ([]byte, error) {
	i := slices.IndexFunc(p.keys, func(c *candidate) bool { return string(c.public.Marshal()) == string(key) })
	if i < 0 {
		return nil, native.ErrSkip
	}
	chosen := p.keys[i]
	name := chosen.name + " (" + describeKey(chosen.public) + ")"
	p.server.log.DebugContext(ctx, "the server wants a signature of the key", "key", name)
	p.clock.pause() // a person may have to touch it
	defer p.clock.resume()
	signer, err := chosen.signer(ctx)
	var signature []byte
	if err == nil {
		signature, err = auth.SignMessage(signer, protocol.NamespaceUser, message)
	}
	switch {
	case err == nil:
		p.tried = append(p.tried, name)
		p.server.mem.choose(chosen)
		return signature, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case refusedByAgent(err):
		err = fmt.Errorf("the agent does not sign with %s: %w", chosen.name, err)
	}
	p.fail(name, err)
	return nil, native.ErrSkip
}

// refusedByAgent tells the agent's no from not reaching it. The agent gives no
// reason, and x/crypto has no error of its own for it.
func refusedByAgent(err error) bool { return strings.Contains(err.Error(), "agent: failed to sign") }

// logConnection tells, for -v, how the connection came to be.
func (p *prover) logConnection(c *tlsStream) {
	state := c.ConnectionState()
	attrs := []any{
		"server", p.server.s.label(), "address", c.RemoteAddr().String(), "version", tls.VersionName(state.Version),
		"key_exchange", state.CurveID.String(), "cipher", tls.CipherSuiteName(state.CipherSuite),
	}
	if key := p.server.mem.identity(); key != nil {
		attrs = append(attrs, "identity", key.name)
	}
	p.server.log.Info("logged in", attrs...)
}

// Refused implements native.Prover.
func (p *prover) Refused(e *native.PeerError) error {
	s := p.server.s
	if e.Code == protocol.CodeAuth {
		return p.denied()
	}
	words := map[protocol.Code]*problem{
		protocol.CodeMoreAuth: {
			kind: auth.ErrAuth, text: "log in to " + s.label() + ": the account needs more than a key",
			hint: "log in by SSH, which can ask for the rest: write ssh://, or leave out --transport=tcp (a transferd's SSH port is 2022)",
		},
		protocol.CodeRestricted: {
			kind: auth.ErrAuth, text: "log in to " + s.label() + ": the key is for another purpose (command= in authorized_keys)",
			hint: "-i names another key",
		},
		protocol.CodeNoHostKey: {
			kind: auth.ErrHostKey, text: fmt.Sprintf("connect to %s: %v: the server has no host key of a kind that is taken here", where(s), auth.ErrHostKey),
			hint: "give the server an ed25519 host key",
		},
	}
	if said, ok := words[e.Code]; ok {
		return said
	}
	return peerError(s, e)
}

// denied is the error of a login with keys of which none did.
func (p *prover) denied() error {
	s := p.server.s
	e := &problem{kind: auth.ErrAuth, text: "log in to " + s.label() + ": permission denied", cause: p.failed}
	why := "there was no key to try"
	switch {
	case len(p.tried) > 0:
		why = "tried " + strings.Join(p.tried, ", ")
	case len(p.keys) > 0:
		var names []string
		for _, key := range p.keys {
			names = append(names, key.name)
		}
		why = "the server takes none of " + strings.Join(names, ", ")
	case len(s.named) > 0:
		why = "no key named with -i can be used"
	}
	e.text += " (" + why + ")"
	switch {
	case p.failed != nil && refusedByAgent(p.failed):
		e.hint = "keys that the agent binds to hosts (ssh-add -h) sign for SSH alone: write ssh://"
	case len(p.keys) == 0 && len(s.named) > 0:
		e.hint = "name the file of a private key with -i, one that only you can read"
	case p.hidden > 0 && len(p.tried) == 0:
		e.hint = "a locked key without its .pub beside it is offered only if -i names it"
	case len(p.keys) == 0:
		e.hint = "make a key with `transfer keygen`, and add its .pub file to the authorized_keys of the account on the server"
	default:
		e.hint = "the account's authorized_keys on the server must hold one of these public keys; -i names another key; passwords are for ssh://"
	}
	return e
}

// peerError says for people what a server said instead of beginning a session.
func peerError(s settings, e *native.PeerError) error {
	p := &problem{kind: ErrConnect, text: "connect to " + where(s) + ": the server says: " + escape(e.Message)}
	switch code := e.Code; {
	case code == protocol.CodeVersion:
		p.text = "connect to " + where(s) + ": the server speaks another version of our protocol"
		p.hint = "install the same version on both sides; --transport=sftp works between all"
	case code == protocol.CodeLimit:
		p.text = "connect to " + where(s) + ": the server has no place"
		p.hint = "other copies or clients may hold its connections: end one, or try again later"
	case code == protocol.CodeShutdown:
		p.text = "connect to " + where(s) + ": the server is about to end"
		p.hint = "try again in a moment"
	case e.Message == "":
		p.text += code.String()
	}
	return p
}

// nativeError says for people why a session could not be begun.
func (v *server) nativeError(ctx context.Context, err error) error {
	late := v.handshaken != nil && v.handshaken.release()
	var said *native.PeerError
	var mine *problem
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("connect to %s: %w", v.s.label(), context.Cause(ctx))
	case errors.As(err, &mine), errors.Is(err, auth.ErrAuth), errors.Is(err, auth.ErrHostKey):
		return err
	case late:
		return tlsError(v.s, context.DeadlineExceeded)
	case errors.As(err, &said):
		return peerError(v.s, said)
	}
	hint := "check that a transferd listens there"
	if v.s.way == wayTCP {
		hint = tcpPortHint
	}
	return &problem{kind: ErrConnect, text: "connect to " + where(v.s), cause: err, hint: hint}
}
