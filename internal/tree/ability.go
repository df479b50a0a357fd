package tree

import "context"

// The interfaces below are what a tree may be able to do besides. Who wants to
// use one asserts it, and does without where it is missing or answers
// errors.ErrUnsupported.

// A Small is a whole file that is short enough to be written in one step.
type Small struct {
	Path      Path
	Data      []byte // the callee keeps no reference
	Digest    Digest // of Data, which the callee checks: else it is ErrIntegrity
	Origin    string // as Upload.Origin
	InPlace   bool
	NoReplace bool
	Verify    Verify
	Fsync     Fsync
	Attr      Attr // without Size
}

// A Putter takes small files without Begin and Commit. What it promises when
// Put returns is what Commit promises; on errors nothing of the file is left.
type Putter interface {
	// Put gives s its final name, durably. It is made for many calls at the
	// same time, which share round trips and syncs. Data above PutLimit is
	// errors.ErrUnsupported.
	Put(ctx context.Context, s Small) (Receipt, error)

	// PutLimit is the most bytes that Put takes; 0: it takes nothing.
	PutLimit(ctx context.Context) (int64, error)
}

// A Getter gives small files whole.
type Getter interface {
	// Get reads the regular file that p leads to, if it has at most limit
	// bytes; else the error is errors.ErrUnsupported. The file did not change
	// while it was read: that is ErrSourceChanged. Data belongs to the caller
	// and has the digest that is told, which the tree has checked.
	Get(ctx context.Context, p Path, limit int64) (Got, error)

	// GetLimit is the most bytes that Get gives; 0: it gives nothing.
	GetLimit(ctx context.Context) (int64, error)
}

// A Got is a small file.
type Got struct {
	Entry  Entry // as Reader.Stat describes it
	Data   []byte
	Digest Digest
}

// A ChunkReader is a Reader whose other end hashes what it sends.
type ChunkReader interface {
	// ReadChunk reads chunk index of a file of size bytes with chunks of
	// chunkSize into p, which is exactly as long as the chunk, and returns the
	// value that the other end found for it. The caller compares. It fails with
	// ErrSourceChanged where the file is shorter.
	ReadChunk(ctx context.Context, p []byte, index, size, chunkSize int64) (Value, error)
}

// A ChunkHasher is a Reader that can hash chunks where the file lies.
type ChunkHasher interface {
	// HashChunks returns the values of chunks first to first+count-1 of a file
	// of size bytes, in order.
	HashChunks(ctx context.Context, first, count, size, chunkSize int64) ([]Value, error)
}

// An Xattr is one extended attribute.
type Xattr struct {
	Name  string // with its namespace: "user.…"
	Value []byte
}

// An Xattrer is a tree that can read extended attributes.
type Xattrer interface {
	// Xattrs returns the extended attributes of p itself in the namespace
	// "user.", sorted by name; not nil where there are none.
	Xattrs(ctx context.Context, p Path) ([]Xattr, error)
}
