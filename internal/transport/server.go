package transport

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"transferd/auth"
	"transferd/internal/tree"
)

// defaultStreams is how many connections one server gets where nobody says.
// More gain little, and each costs a login.
const defaultStreams = 4

// A server is one account on one server, with the connections to it. It is
// safe for concurrent use.
type server struct {
	s     settings
	o     Options
	home  string
	with  *shared
	log   *slog.Logger
	limit int // connections
	trust *auth.HostKeys
	mem   *memory

	// dialing is held by whoever opens a connection or a lane: one after the
	// other, because a server that is dialled by several at once drops some
	// (MaxStartups) and may charge for it (PerSourcePenalties).
	dialing chan struct{}

	streams sync.WaitGroup // over TCP that are being closed

	// Guarded by dialing.
	links      []*link
	hops       []*link      // the jump hosts, in order
	agent      *auth.Agent  // nil: none
	keys       []*candidate // nil: not looked for yet
	refused    bool         // the server took no further connection
	closed     bool
	entered    bool          // a login has succeeded before
	served     bool          // and files could be got at
	reached    string        // the address that was dialled; "": none, or by way of a jump host
	trip       time.Duration // a round trip to it, as dialling found it
	session    session
	handshaken *guard // the clock of the last handshake over TCP; nil: there was none
	asker      *asker // of the handshake that is going on
}

func newServer(s settings, o Options, home string, with *shared, log *slog.Logger) *server {
	v := &server{
		s: s, o: o, home: home, with: with, log: log, mem: &memory{}, dialing: make(chan struct{}, 1),
		limit: cmp.Or(o.Streams, defaultStreams),
	}
	v.trust = &auth.HostKeys{Files: s.knownHosts, Policy: s.policy, Hash: s.hash, Warn: v.warn}
	if s.ask {
		v.trust.Ask = func(ctx context.Context, question string) (string, error) {
			return v.asker.confirm(ctx, question)
		}
	}
	return v
}

func (v *server) lock(ctx context.Context) error {
	select {
	case v.dialing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (v *server) unlock() { <-v.dialing }

// open is the sftp client's Dialer: a lane on one more connection as long as
// there may be more, else on the connection with the fewest.
func (v *server) open(ctx context.Context) (io.ReadWriteCloser, error) {
	if err := v.lock(ctx); err != nil {
		return nil, err
	}
	defer v.unlock()
	if v.closed {
		return nil, v.closedError()
	}
	v.bury()
	if len(v.links) == 0 || len(v.links) < v.limit && !v.refused && v.mem.repeatable() && !v.idle() {
		l, err := v.dial(ctx)
		switch {
		case err == nil:
			v.links = append(v.links, l)
		case len(v.links) == 0:
			return nil, v.again(err)
		case ctx.Err() != nil:
			return nil, err
		default:
			v.refused = true
			v.log.InfoContext(ctx, "no further connection, going on with those there are",
				"server", v.s.label(), "connections", len(v.links), "reason", err)
		}
	}
	return v.openLane(ctx)
}

// idle reports whether a connection carries nothing yet.
func (v *server) idle() bool {
	return slices.ContainsFunc(v.links, func(l *link) bool {
		channels, _ := l.load()
		return channels == 0
	})
}

func (v *server) closedError() error { return fmt.Errorf("%s: %w", v.s.label(), tree.ErrClosed) }

// openLane opens a lane on the connection that has the fewest.
func (v *server) openLane(ctx context.Context) (io.ReadWriteCloser, error) {
	byLoad := slices.Clone(v.links)
	slices.SortStableFunc(byLoad, func(a, b *link) int {
		x, _ := a.load()
		y, _ := b.load()
		return x - y
	})
	var last error
	for _, l := range byLoad {
		if _, room := l.load(); !room {
			continue
		}
		opened, err := l.openLane(ctx, sftpSubsystem())
		switch {
		case err == nil:
			v.served = true
			v.log.DebugContext(ctx, "lane opened", "server", v.s.label(), "connection", slices.Index(v.links, l)+1, "connections", len(v.links))
			return opened, nil
		case ctx.Err() != nil:
			return nil, err
		case errors.Is(err, errNoSFTP):
			return nil, &problem{
				kind: ErrConnect, text: v.s.label(), cause: err,
				hint: "its sshd_config needs a line such as: Subsystem sftp internal-sftp",
			}
		}
		last = err
	}
	if last == nil {
		last = errors.New("it allows no more sessions on its connections (MaxSessions)")
	}
	if refused := new(ssh.OpenChannelError); errors.As(last, &refused) && v.dismissed() {
		return nil, v.again(&problem{
			kind: ErrConnect, text: fmt.Sprintf("connect to %s: the server has no place: %s", v.s.label(), refused.Message),
			hint: "other copies or clients may hold its connections: end one, or try again later",
		})
	}
	return nil, fmt.Errorf("open a channel to %s: %w", v.s.label(), last)
}

// dismissed gives up connections that the server took and then allows nothing
// on, and reports whether none is left.
func (v *server) dismissed() bool {
	v.links = slices.DeleteFunc(v.links, func(l *link) bool {
		channels, _ := l.load()
		if channels == 0 {
			l.close()
		}
		return channels == 0
	})
	return len(v.links) == 0
}

// bury drops connections that have ended.
func (v *server) bury() {
	v.links = slices.DeleteFunc(v.links, func(l *link) bool {
		if l.alive() {
			return false
		}
		l.close()
		return true
	})
	if slices.ContainsFunc(v.hops, func(l *link) bool { return !l.alive() }) {
		v.closeHops() // what ran through them has ended with them
	}
	if len(v.links) == 0 {
		v.refused = false
	}
}

func (v *server) closeHops() {
	for _, l := range slices.Backward(v.hops) {
		l.close()
	}
	v.hops = nil
}

// again turns the error of dialling anew, after a connection was lost, into
// what it is for the copy that runs: a connection lost, which the engine may
// wait for. A first connection that fails is told as it is.
func (v *server) again(err error) error {
	if !v.served || !errors.Is(err, ErrConnect) {
		return err
	}
	p := &problem{kind: tree.ErrLost, text: v.s.label() + ": " + tree.ErrLost.Error() + ", and not made again: " + err.Error()}
	var hinter Hinter
	if errors.As(err, &hinter) {
		p.hint = hinter.Hint()
	}
	return p
}

// dial makes one more connection, and logs in.
func (v *server) dial(ctx context.Context) (*link, error) {
	via, err := v.passage(ctx)
	if err != nil {
		return nil, err
	}
	if v.entered && v.mem.repeatable() {
		// The person is asked again only if what was right before is not now,
		// and not at all for the sake of one more lane.
		l, err := v.connect(ctx, v, via, true)
		if err == nil || len(v.links) > 0 || !errors.Is(err, auth.ErrAuth) {
			return l, err
		}
		v.log.DebugContext(ctx, "the login that worked before is refused", "server", v.s.label(), "reason", err)
	}
	return v.connect(ctx, v, via, false)
}

// passage returns the connection to the last jump host, nil if there is none.
func (v *server) passage(ctx context.Context) (*ssh.Client, error) {
	var via *ssh.Client
	for i, s := range v.s.jump {
		if i == len(v.hops) {
			hop := newServer(s, v.o, v.home, v.with, v.log)
			l, err := v.connect(ctx, hop, via, false)
			hop.forget()
			if err != nil {
				return nil, jumpError(s, err)
			}
			v.hops = append(v.hops, l)
		}
		via = v.hops[i].client
	}
	return via, nil
}

// connect dials to, by way of via if that is not nil, checks its host key and
// logs in. With again nobody is asked anything.
func (v *server) connect(ctx context.Context, to *server, via *ssh.Client, again bool) (*link, error) {
	to.log.DebugContext(ctx, "connecting", "server", to.s.label(), "jump", via != nil)
	conn, err := to.dialTCP(ctx, via)
	if err != nil {
		return nil, err
	}
	return to.handshake(ctx, conn, again)
}

// forget lets go of the agent, which only a login needs.
func (v *server) forget() {
	if v.agent != nil {
		_ = v.agent.Close() // it never fails
	}
}

// close ends every connection.
func (v *server) close() {
	v.dialing <- struct{}{}
	defer v.unlock()
	v.closed = true
	for _, l := range v.links {
		l.close()
	}
	v.links = nil
	v.closeHops()
	v.forget()
	v.streams.Wait()
}

// algorithms returns what was agreed on with the server, for each connection.
func (v *server) algorithms(ctx context.Context) []ssh.NegotiatedAlgorithms {
	if v.lock(ctx) != nil {
		return nil
	}
	defer v.unlock()
	var all []ssh.NegotiatedAlgorithms
	for _, l := range v.links {
		if m, ok := l.client.Conn.(ssh.AlgorithmsConnMetadata); ok {
			all = append(all, m.Algorithms())
		}
	}
	return all
}

func (v *server) describe(ctx context.Context) []string {
	lines := []string{v.s.label()}
	for _, hop := range v.s.jump {
		lines = append(lines, "by way of "+hop.label())
	}
	for i, a := range v.algorithms(ctx) {
		lines = append(lines, fmt.Sprintf("connection %d: %s, host key %s, %s", i+1, a.KeyExchange, a.HostKey, a.Read.Cipher))
	}
	return lines
}
