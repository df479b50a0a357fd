package transport

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"transferd/internal/tree"
	"transferd/internal/wire"
)

// shared is what all servers of a Pool have together.
type shared struct {
	turn sync.Mutex    // held while the person is being asked
	pace *wire.Limiter // of all bytes on the wire; nil: any number
}

// A Pool owns the connections of one run, one Remote for every distinct
// server. It is safe for concurrent use.
type Pool struct {
	o        Options
	log      *slog.Logger
	resolver *resolver
	shared   *shared

	mu      sync.Mutex
	closed  bool
	entries map[string]*entry
}

// An entry is one server of a Pool, connected or about to be.
type entry struct {
	server *server
	busy   chan struct{} // held while it is being connected
	remote *Remote       // guarded by busy; nil: not connected
}

// New returns a Pool. It connects nowhere; what is wrong in o is told by
// Options.Check, and by Connect. The caller closes it.
func New(o Options) *Pool {
	log := cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	return &Pool{
		o: o, log: log, resolver: newResolver(o, log), shared: &shared{pace: wire.NewLimiter(o.Bandwidth)},
		entries: map[string]*entry{},
	}
}

// Close ends every connection and waits for what serves them.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	entries := p.entries
	p.entries = nil
	p.mu.Unlock()
	var errs []error
	for _, e := range entries {
		e.busy <- struct{}{}
		if e.remote != nil {
			errs = append(errs, e.remote.files.Close())
		}
		<-e.busy
		e.server.close()
	}
	return errors.Join(errs...)
}

// Connect returns the server of t, ready for use: dialled, its host key
// checked, logged in. Targets with the same user, host, port and jump hosts
// share one Remote. Errors wrap ErrUsage, ErrConnect, auth.ErrHostKey,
// auth.ErrAuth, or ctx's; a Hinter among them knows what to do next. A
// connection that could not be made is not tried again.
func (p *Pool) Connect(ctx context.Context, t Target) (*Remote, error) {
	if err := p.o.Check(); err != nil {
		return nil, err
	}
	if !t.Remote() {
		return nil, usage("target %q is on this machine", t.Raw)
	}
	s, err := p.resolver.resolve(t)
	if err != nil {
		return nil, err
	}
	e, err := p.entry(s)
	if err != nil {
		return nil, err
	}
	select {
	case e.busy <- struct{}{}:
		defer func() { <-e.busy }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if e.remote != nil {
		return e.remote, nil
	}
	found, err := e.server.connectFiles(ctx)
	if err != nil {
		return nil, err
	}
	e.remote = &Remote{files: found, server: e.server}
	return e.remote, nil
}

func (p *Pool) entry(s settings) (*entry, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, fmt.Errorf("connect to %s: %w", s.label(), tree.ErrClosed)
	}
	e, ok := p.entries[s.key()]
	if !ok {
		e = &entry{
			server: newServer(s, p.o, p.resolver.m.home, p.shared, p.log),
			busy:   make(chan struct{}, 1),
		}
		p.entries[s.key()] = e
	}
	return e, nil
}
