package sftp

import (
	"context"
	"errors"
	"iter"

	"transferd/internal/tree"
)

// NewClient dials the first channel and greets the server. The caller closes
// the Client, which closes the channels and no connection.
func NewClient(ctx context.Context, dial Dialer, o ClientOptions) (*Client, error) {
	return nil, errors.ErrUnsupported
}

// Close closes all channels and waits for everything that serves them.
// Operations that are running fail with tree.ErrClosed.
func (c *Client) Close() error { return errors.ErrUnsupported }

// Transport implements tree.Carrier.
func (c *Client) Transport() string { return "sftp" }

// Home returns the directory in which the server starts.
func (c *Client) Home(ctx context.Context) (tree.Path, error) { return "", errors.ErrUnsupported }

// RealPath returns what the server makes of p: absolute, relative to the home,
// or "~" and "~user", which only some servers can tell (errors.ErrUnsupported).
func (c *Client) RealPath(ctx context.Context, p string) (tree.Path, error) {
	return "", errors.ErrUnsupported
}

// Stat implements tree.Source.
func (c *Client) Stat(ctx context.Context, p tree.Path) (tree.Entry, error) {
	return tree.Entry{}, errors.ErrUnsupported
}

// Lstat implements tree.Source.
func (c *Client) Lstat(ctx context.Context, p tree.Path) (tree.Entry, error) {
	return tree.Entry{}, errors.ErrUnsupported
}

// List implements tree.Source.
func (c *Client) List(ctx context.Context, p tree.Path) iter.Seq2[tree.Entry, error] { return nil }

// Open implements tree.Source.
func (c *Client) Open(ctx context.Context, p tree.Path) (tree.Reader, error) {
	return nil, errors.ErrUnsupported
}

// Mkdir implements tree.Names.
func (c *Client) Mkdir(ctx context.Context, p tree.Path, perm tree.Perm) error {
	return errors.ErrUnsupported
}

// Symlink implements tree.Names.
func (c *Client) Symlink(ctx context.Context, target string, p tree.Path) error {
	return errors.ErrUnsupported
}

// Rename implements tree.Names.
func (c *Client) Rename(ctx context.Context, from, to tree.Path, how tree.RenameMode) error {
	return errors.ErrUnsupported
}

// Remove implements tree.Names.
func (c *Client) Remove(ctx context.Context, p tree.Path) error { return errors.ErrUnsupported }

// SetAttr implements tree.Names.
func (c *Client) SetAttr(ctx context.Context, p tree.Path, attr tree.Attr) error {
	return errors.ErrUnsupported
}

// Link implements tree.Linker.
func (c *Client) Link(ctx context.Context, from, to tree.Path) error { return errors.ErrUnsupported }

// StatFS implements tree.Spacer.
func (c *Client) StatFS(ctx context.Context, p tree.Path) (tree.Space, error) {
	return tree.Space{}, errors.ErrUnsupported
}

// Begin implements tree.Sink.
func (c *Client) Begin(ctx context.Context, u tree.Upload) (tree.Writer, error) {
	return nil, errors.ErrUnsupported
}

// Sub implements tree.Suber.
func (c *Client) Sub(ctx context.Context, p tree.Path) (tree.SubTree, error) {
	return nil, errors.ErrUnsupported
}
