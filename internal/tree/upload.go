package tree

import (
	"context"
	"iter"
)

// An Upload says what Begin starts or resumes.
type Upload struct {
	Path   Path     // the final name; nothing partial ever has it
	Size   int64    // bytes; -1: not known before Commit (never resumed)
	Source Identity // what the source is now

	// Origin names the source for ever: the machine and its absolute path.
	// With Path it is the key of the partial; different origins never share one.
	Origin string

	ChunkSize int64 // as ChunkSizeFor says
	Resume    bool  // false: what an earlier run left is thrown away
	Sparse    bool  // the file will have holes: do not preallocate
	InPlace   bool  // write the final name itself, keeping its inode; not crash-safe
	NoReplace bool  // Commit fails with fs.ErrExist if the final name exists by then
	Verify    Verify
	Fsync     Fsync

	// Durable hears of chunks of this run that have become durable and are
	// recorded, before the end of the upload. It is never called twice at once,
	// must return soon, and keeps no reference to the slice. Nil: nobody
	// listens. A Writer that keeps a journal calls it with no chunks before Begin
	// returns, which says so; one that cannot tell never calls it.
	Durable func(chunks []int64)

	// Failed hears why the upload cannot go on, where no call of the Writer is
	// there to say so: what was written could not be made durable, or another run
	// has taken the upload over (ErrTakenOver). Later calls say it as well. It must
	// return soon, and is not told what comes of Commit, Suspend and Abort. Nil:
	// nobody listens. Only a Writer that calls Durable calls it.
	Failed func(error)
}

// Verify says how much is read again before a copy counts as right.
type Verify uint8

// The degrees of verification.
const (
	VerifyFast Verify = iota // chunks kept from earlier runs
	VerifyFull               // everything, after the final fsync
)

// Fsync says when written data is forced to stable storage.
type Fsync uint8

// The degrees of durability.
const (
	FsyncAuto   Fsync = iota // before a copy is acknowledged; small files in groups
	FsyncAlways              // each file by itself
	FsyncOff                 // never: a power cut may lose acknowledged files
)

// A Chunk is one aligned piece of a file on its way to a Writer.
type Chunk struct {
	Index int64  // Index × Upload.ChunkSize is its offset
	Data  []byte // a whole chunk, or what the file has left; the Writer keeps no reference
	Value Value  // what ChunkValue says of Data at this Index

	// Extents are the parts of the file inside this chunk that hold data; the
	// rest of Data is zeros and becomes a hole. Nil: all of it is data.
	Extents []Extent
}

// A Writer receives one file. WriteChunk may be called by several goroutines
// at once, each chunk by one. Exactly one of Commit, Suspend and Abort ends it,
// when no other call is running.
type Writer interface {
	// Have yields the chunks that earlier runs made durable, by index, with the
	// values recorded for them. Chunks that are wholly a hole need not be
	// written and are not among them unless they were.
	Have() iter.Seq2[int64, Value]

	// Unchanged reports whether Have was recorded from the same Upload.Source.
	Unchanged() bool

	// Recheck reads again what Have yielded, as much as Upload.Verify and the
	// transport allow, and calls bad for every chunk that does not have its
	// recorded value; such a chunk must be written again. It may run beside
	// WriteChunk of other chunks, and stops early when ctx ends.
	Recheck(ctx context.Context, bad func(index int64)) error

	// WriteChunk takes a chunk. It blocks while too much is not yet durable. An
	// error ends the upload: the caller then calls Suspend.
	WriteChunk(ctx context.Context, c Chunk) error

	// Commit makes everything durable, checks it as Upload.Verify says, sets
	// the attributes and gives the file its final name. After an error the
	// upload is suspended, its partial kept.
	Commit(ctx context.Context, f Final) (Receipt, error)

	// Suspend makes what arrived durable, records it, and keeps it for a later
	// Begin with the same key.
	Suspend(ctx context.Context) error

	// Abort throws everything away.
	Abort(ctx context.Context) error
}

// Final is what is known of a file only at its end.
type Final struct {
	Size      int64
	Digest    Digest  // BLAKE3 root of the whole file; zero where HasDigest is false
	Values    []Value // of every chunk; a hole chunk that was not written has the zero Value
	HasDigest bool    // false for files with large holes
	Attr      Attr
}

// A Receipt tells what Commit did.
type Receipt struct {
	Verified Verified
	Volatile bool // Fsync was off or the server cannot sync
}

// Verified says how a finished copy was checked.
type Verified string

// The ways a copy is checked, as events report them.
const (
	VerifiedDigest  Verified = "digest"  // both sides hashed every byte they handled
	VerifiedSampled Verified = "sampled" // byte counts, and chunks kept from earlier runs in part
	VerifiedFull    Verified = "full"    // everything was read back
)

// Journals keeps on this machine's disk what is durable of uploads whose other
// end keeps no journal of its own (SFTP).
type Journals interface {
	// OpenJournal opens or makes the journal named by key, any text, and holds
	// it against other processes: ErrBusy after 15 s of waiting.
	OpenJournal(ctx context.Context, key string, h JournalHeader) (Journal, error)

	// Lock holds key, any text, against other uploads of this machine that have
	// no journal, until unlock is called: ErrBusy after 15 s of waiting.
	Lock(ctx context.Context, key string) (unlock func(), err error)
}

// JournalHeader is what a journal must agree with to be continued.
type JournalHeader struct {
	Size      int64
	ChunkSize int64
	Source    Identity
}

// A Journal records which chunks of one upload are durable. It is safe for
// concurrent use. A torn tail was cut off when it was opened.
type Journal interface {
	// Have yields what was recorded before this run, by index.
	Have() iter.Seq2[int64, Value]

	// Unchanged reports whether the journal found had the same Source.
	Unchanged() bool

	// Record returns when the chunks are durably recorded. The caller has made
	// their data durable before.
	Record(chunks map[int64]Value) error

	// Forget drops chunks that turned out bad.
	Forget(indexes []int64) error

	// Close keeps the journal for the next run; Remove deletes it.
	Close() error
	Remove() error
}
