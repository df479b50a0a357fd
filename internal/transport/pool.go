package transport

import (
	"context"
	"errors"
)

// A Pool owns the connections of one run, one Remote for every distinct
// server. It is safe for concurrent use.
type Pool struct {
	o Options
}

// server is one account on one server.
type server struct{}

// New returns a Pool. It connects nowhere; what is wrong in o is told by
// Options.Check, and by Connect. The caller closes it.
func New(o Options) *Pool {
	return &Pool{o: o}
}

// Close ends every connection and waits for what serves them.
func (p *Pool) Close() error { return nil }

// Connect returns the server of t, ready for use: dialled, its host key
// checked, logged in. Targets with the same user, host, port and jump hosts
// share one Remote. Errors wrap ErrUsage, ErrConnect, auth.ErrHostKey,
// auth.ErrAuth, or ctx's.
func (p *Pool) Connect(ctx context.Context, t Target) (*Remote, error) {
	return nil, errors.New("not built")
}
