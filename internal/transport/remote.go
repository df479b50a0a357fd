package transport

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

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

// Tree returns the tree itself, whose type tells what it can do besides. The
// Pool closes it.
func (r *Remote) Tree() tree.Sink { return r.files }

// Label names the server for people: user@host:port.
func (r *Remote) Label() string { return r.server.s.label() }

// Close does nothing: the Pool owns the connections, which targets share.
func (r *Remote) Close() error { return nil }

// Resolve makes a path of Target.Path: a relative one starts at the home, ""
// and "~" are the home, and "~user" is that of another user where the server
// can tell. Where ".." stands in it the server resolves what is before it, for
// only there it is known where a symlink leads; the last element is never
// followed.
func (r *Remote) Resolve(ctx context.Context, path string) (tree.Path, error) {
	path, home, err := r.base(ctx, path)
	if err != nil {
		return "", err
	}
	if slices.Contains(strings.Split(path, "/"), "..") {
		return r.resolveUp(ctx, home, path)
	}
	p, err := tree.ParsePath(path)
	if err != nil {
		return "", fmt.Errorf("%s:%s: %w", r.Label(), path, err)
	}
	return home.Append(p), nil
}

// base splits path into where it starts and what follows.
func (r *Remote) base(ctx context.Context, path string) (rest string, base tree.Path, err error) {
	switch {
	case strings.HasPrefix(path, "/"):
		return path, tree.Root, nil
	case path == "~" || strings.HasPrefix(path, "~/"):
		path = strings.TrimLeft(path[1:], "/")
	case strings.HasPrefix(path, "~"):
		user, rest, _ := strings.Cut(path, "/")
		base, err := r.RealPath(ctx, user)
		if errors.Is(err, errors.ErrUnsupported) {
			return "", "", &problem{
				kind: errors.ErrUnsupported, text: r.Label() + " cannot tell where " + user + " is",
				hint: "write the absolute path; for a name that begins with ~ write ./" + path,
			}
		}
		if err != nil {
			return "", "", fmt.Errorf("find %s: %w", user, err)
		}
		return rest, base, nil
	}
	base, err = r.Home(ctx)
	if err != nil {
		return "", "", fmt.Errorf("find the home of %s: %w", r.Label(), err)
	}
	return path, base, nil
}

func (r *Remote) resolveUp(ctx context.Context, base tree.Path, path string) (tree.Path, error) {
	full := "/" + path
	if base != tree.Root {
		full = "/" + string(base) + "/" + path
	}
	full = strings.TrimRight(full, "/")
	last := full[strings.LastIndexByte(full, '/')+1:]
	dir := full
	if last != ".." && last != "." {
		dir = full[:len(full)-len(last)]
	}
	p, err := r.RealPath(ctx, dir)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	if dir == full {
		return p, nil
	}
	return p.Join(last), nil
}

// Describe tells how the connection is protected and spread, a line each, for
// -v.
func (r *Remote) Describe(ctx context.Context) []string {
	lines := r.server.describe(ctx)
	if streams, ok := r.files.(interface {
		Describe(context.Context) []string
	}); ok {
		lines = append(lines, streams.Describe(ctx)...)
	}
	return lines
}

// Ciphers returns the names of the ciphers in use, one a connection.
func (r *Remote) Ciphers(ctx context.Context) []string {
	var names []string
	for _, a := range r.server.algorithms(ctx) {
		names = append(names, a.Read.Cipher)
	}
	return names
}
