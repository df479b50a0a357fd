package transport

import (
	"context"

	"transferd/internal/tree"
)

// files is what a server's tree can do, over whatever protocol.
type files interface {
	tree.Sink
	tree.Suber
	tree.Linker
	tree.Spacer
	tree.Carrier
	Home(ctx context.Context) (tree.Path, error)
	RealPath(ctx context.Context, p string) (tree.Path, error)
	Close() error
}

// A Remote is one server, logged in as one user: the tree that it shows. Its
// paths are absolute there, without their first slash. It is safe for
// concurrent use, belongs to its Pool, and survives lost connections: an
// operation that was running fails with tree.ErrLost, the next one dials anew.
type Remote struct {
	files

	server *server
}

// Resolve makes a path of Target.Path: a relative one starts at the home, ""
// and "~" are the home, and "~user" is that of another user where the server
// can tell.
func (r *Remote) Resolve(ctx context.Context, path string) (tree.Path, error) {
	return tree.Root, nil
}

// Label names the server for people: user@host:port.
func (r *Remote) Label() string { return "" }

// Describe tells how the connection is protected and spread, for -v.
func (r *Remote) Describe() []string { return nil }

// Close does nothing: the Pool owns the connections, which targets share.
func (r *Remote) Close() error { return nil }
