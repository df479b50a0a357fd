// Package tree is the vocabulary that every part of the system shares: what a
// path, an entry, an extent and a digest are, and what a Source and a Sink owe
// each other. It opens nothing and talks to nobody.
package tree

import (
	"context"
	"io"
	"iter"
)

// A Source is a tree that files are read from: a local disk, a server behind
// some transport. All methods are safe for concurrent use. Errors wrap
// fs.ErrNotExist, fs.ErrPermission and the sentinels of this package where
// they apply, and name the path.
type Source interface {
	// Stat describes what p leads to, its last symlink followed.
	Stat(ctx context.Context, p Path) (Entry, error)

	// Lstat describes p itself. Entry.Link is set for a symlink.
	Lstat(ctx context.Context, p Path) (Entry, error)

	// List yields the entries of directory p as Lstat describes them, in no
	// particular order, without "." and "..". It ends at the first error.
	List(ctx context.Context, p Path) iter.Seq2[Entry, error]

	// Open opens the regular file that p leads to. It never blocks on a FIFO
	// and fails with ErrNotRegular on anything that is not a regular file.
	Open(ctx context.Context, p Path) (Reader, error)
}

// A Reader reads one regular file. It is safe for concurrent use; whoever
// opened it closes it.
type Reader interface {
	// ReadAt obeys io.ReaderAt: fewer bytes than asked only with an error,
	// io.EOF at the end.
	io.ReaderAt
	io.Closer

	// Stat describes the open file itself, whatever its name leads to by now.
	Stat(ctx context.Context) (Entry, error)
}

// An ExtentReader is a Reader that knows where the holes of its file are.
type ExtentReader interface {
	// Extents returns the extents that hold data, ascending and disjoint;
	// everything between them reads as zeros.
	Extents(ctx context.Context) ([]Extent, error)
}

// Names is the directory half of a tree: everything that changes names and
// attributes and no contents. No method follows the last symlink of a path.
type Names interface {
	// Mkdir makes one directory; its parent must exist. An existing name is
	// fs.ErrExist.
	Mkdir(ctx context.Context, p Path, perm Perm) error

	// Symlink makes p a symlink to target, which is stored as it is.
	Symlink(ctx context.Context, target string, p Path) error

	// Rename moves from to to, in one step wherever the tree can.
	Rename(ctx context.Context, from, to Path, how RenameMode) error

	// Remove removes a file, a symlink or an empty directory.
	Remove(ctx context.Context, p Path) error

	// SetAttr changes what attr names and nothing else.
	SetAttr(ctx context.Context, p Path, attr Attr) error
}

// A Sink is a tree that files are copied to.
type Sink interface {
	Source
	Names

	// Begin starts the upload u, or resumes it where an earlier run left it.
	// The Writer must be ended by exactly one of Commit, Suspend and Abort.
	Begin(ctx context.Context, u Upload) (Writer, error)
}

// A Suber hands out parts of itself.
type Suber interface {
	// Sub returns the tree below directory p (the last symlink followed), held
	// by a handle where that is possible: no path of it, symlinks included,
	// leaves p. The caller closes it; a tree returned by Sub is a Suber too.
	Sub(ctx context.Context, p Path) (SubTree, error)
}

// A SubTree is a Sink below a directory that Sub was asked for.
type SubTree interface {
	Sink
	Suber
	io.Closer
}

// FS is what a server protocol serves: a tree with random access to files.
type FS interface {
	Source
	Names

	// OpenFile opens p for access that is not a copy. It follows the last
	// symlink where that stays in the tree, except with OpenExclusive.
	OpenFile(ctx context.Context, p Path, flags OpenFlags, perm Perm) (File, error)

	// Link makes to a hard link to from.
	Link(ctx context.Context, from, to Path) error

	// StatFS tells the space of the filesystem that holds p.
	StatFS(ctx context.Context, p Path) (Space, error)
}

// A File is an open file of an FS. It is safe for concurrent use; whoever
// opened it closes it.
type File interface {
	Reader
	io.WriterAt

	// SetAttr changes the open file; Attr.Size truncates or extends it.
	SetAttr(ctx context.Context, attr Attr) error

	// Sync returns when what was written is on stable storage.
	Sync(ctx context.Context) error
}

// A Linker is a tree that can make hard links.
type Linker interface {
	Link(ctx context.Context, from, to Path) error
}

// A Spacer is a tree that can tell the space of its filesystem.
type Spacer interface {
	StatFS(ctx context.Context, p Path) (Space, error)
}

// A Summer is a tree that can hash a file where it lies.
type Summer interface {
	// Sum returns the BLAKE3 root of the file that p leads to.
	Sum(ctx context.Context, p Path) (Digest, error)
}

// A Tidier is a tree that can remove what an earlier run of an upload left.
type Tidier interface {
	// Tidy removes what is left of the upload of origin to p, unless somebody is
	// at it. It is called for a file that turned out to be done: a kill after
	// its last step but before the cleaning up leaves something behind.
	Tidy(ctx context.Context, p Path, origin string) error
}

// A Carrier is a tree behind a transport. A local tree is none.
type Carrier interface {
	// Transport names the transport for people and events: "sftp", "tcp".
	Transport() string
}
