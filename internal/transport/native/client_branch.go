package native

import (
	"context"
	"errors"
	"iter"

	"transferd/internal/tree"
)

// A branch is the part of a server's tree below one directory: the session's
// root, or one that Sub was asked for and that a handle holds.
type branch struct {
	c *Client
}

// Close lets go of the directory. The session belongs to the Client.
func (b *branch) Close() error { return errors.ErrUnsupported }

// Transport implements tree.Carrier.
func (b *branch) Transport() string { return "ssh" }

// Stat implements tree.Source.
func (b *branch) Stat(ctx context.Context, p tree.Path) (tree.Entry, error) {
	return tree.Entry{}, errors.ErrUnsupported
}

// Lstat implements tree.Source.
func (b *branch) Lstat(ctx context.Context, p tree.Path) (tree.Entry, error) {
	return tree.Entry{}, errors.ErrUnsupported
}

// List implements tree.Source.
func (b *branch) List(ctx context.Context, p tree.Path) iter.Seq2[tree.Entry, error] {
	return func(yield func(tree.Entry, error) bool) { yield(tree.Entry{}, errors.ErrUnsupported) }
}

// Open implements tree.Source. The Reader is a tree.ExtentReader, a
// tree.ChunkReader and a tree.ChunkHasher.
func (b *branch) Open(ctx context.Context, p tree.Path) (tree.Reader, error) {
	return nil, errors.ErrUnsupported
}

// OpenFile implements tree.FS.
func (b *branch) OpenFile(ctx context.Context, p tree.Path, flags tree.OpenFlags, perm tree.Perm) (tree.File, error) {
	return nil, errors.ErrUnsupported
}

// Mkdir implements tree.Names.
func (b *branch) Mkdir(ctx context.Context, p tree.Path, perm tree.Perm) error {
	return errors.ErrUnsupported
}

// Symlink implements tree.Names.
func (b *branch) Symlink(ctx context.Context, target string, p tree.Path) error {
	return errors.ErrUnsupported
}

// Rename implements tree.Names.
func (b *branch) Rename(ctx context.Context, from, to tree.Path, how tree.RenameMode) error {
	return errors.ErrUnsupported
}

// Remove implements tree.Names.
func (b *branch) Remove(ctx context.Context, p tree.Path) error { return errors.ErrUnsupported }

// SetAttr implements tree.Names.
func (b *branch) SetAttr(ctx context.Context, p tree.Path, attr tree.Attr) error {
	return errors.ErrUnsupported
}

// Link implements tree.Linker.
func (b *branch) Link(ctx context.Context, from, to tree.Path) error { return errors.ErrUnsupported }

// StatFS implements tree.Spacer.
func (b *branch) StatFS(ctx context.Context, p tree.Path) (tree.Space, error) {
	return tree.Space{}, errors.ErrUnsupported
}

// Sum implements tree.Summer.
func (b *branch) Sum(ctx context.Context, p tree.Path) (tree.Digest, error) {
	return tree.Digest{}, errors.ErrUnsupported
}

// Sub implements tree.Suber.
func (b *branch) Sub(ctx context.Context, p tree.Path) (tree.SubTree, error) {
	return nil, errors.ErrUnsupported
}

// Xattrs implements tree.Xattrer.
func (b *branch) Xattrs(ctx context.Context, p tree.Path) ([]tree.Xattr, error) {
	return nil, errors.ErrUnsupported
}

// Get implements tree.Getter.
func (b *branch) Get(ctx context.Context, p tree.Path, limit int64) (tree.Got, error) {
	return tree.Got{}, errors.ErrUnsupported
}

// GetLimit implements tree.Getter.
func (b *branch) GetLimit(ctx context.Context) (int64, error) { return 0, errors.ErrUnsupported }
