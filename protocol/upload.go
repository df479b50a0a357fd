package protocol

// UploadFlags are the flags of a Begin and a Put.
type UploadFlags uint8

// How a file is uploaded.
const (
	UploadResume    UploadFlags = 1 << iota // continue what an earlier run left; else that is thrown away
	UploadSparse                            // there will be holes: do not preallocate
	UploadInPlace                           // write the final name itself
	UploadNoReplace                         // EXISTS if the final name exists at the end

	uploadKnown = UploadResume | UploadSparse | UploadInPlace | UploadNoReplace
)

// Verify says how much is read again before a copy counts as right.
type Verify uint8

// The degrees of verification.
const (
	VerifyFast Verify = 0 // chunks kept from earlier runs
	VerifyFull Verify = 1 // everything, after the final fsync
)

// Fsync says when what was written is forced to stable storage.
type Fsync uint8

// The degrees of durability.
const (
	FsyncAuto   Fsync = 0 // before a copy is acknowledged; small files in groups
	FsyncAlways Fsync = 1 // each file by itself
	FsyncOff    Fsync = 2 // never; acknowledgements are volatile
)

// SizeUnknown is the size of an upload whose end is not known yet.
const SizeUnknown = -1

// Begin starts or resumes an upload.
type Begin struct {
	Place
	Flags  UploadFlags
	Verify Verify
	Fsync  Fsync
	Size   int64  // or SizeUnknown
	Chunk  uint32 // size of a chunk
	Source Identity
	Origin string // names the source for ever; with the path the upload's key
}

func (*Begin) kind() Type { return TypeBegin }

func (m *Begin) fields(c *codec) {
	m.Place.fields(c)
	flags(c, "flags", &m.Flags, uploadKnown)
	octet(c, "verify", &m.Verify, VerifyFull)
	octet(c, "fsync", &m.Fsync, FsyncOff)
	c.i64("size", &m.Size)
	c.u32("chunk", &m.Chunk)
	chunk(c, "chunk", m.Chunk)
	group(c, "source", "identity", &m.Source, (*Identity).fields)
	c.text("origin", &m.Origin, MaxPath)
	if m.Size < SizeUnknown {
		c.fail(CodeBadMessage, "size")
	}
}

// BegunFlags are the flags of a Begun.
type BegunFlags uint8

// What a Begun may say.
const (
	BegunUnchanged BegunFlags = 1 << iota // what follows was recorded from the same source
	BegunJournal                          // acknowledged chunks survive this session

	begunKnown = BegunUnchanged | BegunJournal
)

// Begun answers Begin. Have follow, so many that Chunks are told.
type Begun struct {
	Flags  BegunFlags
	Window uint64 // bytes of chunks that may be sent and not be acknowledged
	Expiry uint32 // seconds without a writer after which the partial goes; 0: never
	Chunks uint64 // durable already
}

func (*Begun) kind() Type { return TypeBegun }

func (m *Begun) fields(c *codec) {
	flags(c, "flags", &m.Flags, begunKnown)
	window(c, &m.Window)
	c.u32("expiry", &m.Expiry)
	c.index("chunks", &m.Chunks)
}

func window(c *codec, v *uint64) {
	c.u64("window", v)
	if c.mode != describing && c.err == nil && *v < MinWindow {
		c.fail(CodeBadMessage, "window")
	}
}

// Have tells values of consecutive chunks that are durable.
type Have struct {
	First  uint64 // index
	Values []Value
}

func (*Have) kind() Type { return TypeHave }

func (m *Have) fields(c *codec) {
	c.index("first", &m.First)
	list(c, "values", "bytes32", &m.Values, MaxValues, 32, (*Value).fields)
	if m.First+uint64(len(m.Values)) > MaxChunks {
		c.fail(CodeBadMessage, "first")
	}
}

// Recheck asks to read again what Have told.
type Recheck struct{}

func (*Recheck) kind() Type { return TypeRecheck }

func (*Recheck) fields(*codec) {}

// A RecheckEnd says whether a Bad is the last one.
type RecheckEnd uint8

// How a Bad may end.
const (
	RecheckGoesOn  RecheckEnd = 0 // more may follow
	RecheckDone    RecheckEnd = 1 // all has been read
	RecheckStopped RecheckEnd = 2 // not all: CANCEL came
)

// Bad answers Recheck: chunks that do not have their value.
type Bad struct {
	End     RecheckEnd
	Indexes []uint64
}

func (*Bad) kind() Type { return TypeBad }

func (m *Bad) fields(c *codec) {
	octet(c, "end", &m.End, RecheckStopped)
	list(c, "indexes", "index", &m.Indexes, MaxExtents, 8, func(v *uint64, c *codec) { c.index("indexes", v) })
}

// Ack acknowledges chunks.
type Ack struct {
	Volatile bool    // they were taken, and nothing is promised
	Ranges   []Range // ascending, apart from each other, none empty
}

// A Range is consecutive chunks.
type Range struct {
	First uint64 // index
	Count uint64
}

func (r *Range) fields(c *codec) {
	c.index("first", &r.First)
	c.index("count", &r.Count)
	if r.First+r.Count > MaxChunks {
		c.fail(CodeBadMessage, "count")
	}
}

func (*Ack) kind() Type { return TypeAck }

func (m *Ack) fields(c *codec) {
	boolean(c, "volatile", &m.Volatile)
	list(c, "ranges", "range", &m.Ranges, MaxExtents, 16, (*Range).fields)
	end := uint64(0)
	for _, r := range m.Ranges {
		if r.First < end || r.Count == 0 {
			c.fail(CodeBadMessage, "ranges")
		}
		end = r.First + r.Count
	}
}

// Commit ends an upload: the file gets its final name.
type Commit struct {
	Size      int64
	Sent      uint64   // different chunks sent since BEGIN
	Values    [32]byte // SHA-256 of the values of all chunks in order
	HasDigest bool
	Digest    [32]byte
	Attr      Attr
}

func (*Commit) kind() Type { return TypeCommit }

func (m *Commit) fields(c *codec) {
	c.offset("size", &m.Size)
	c.index("sent", &m.Sent)
	c.bytes32("values", &m.Values)
	boolean(c, "has_digest", &m.HasDigest)
	c.bytes32("digest", &m.Digest)
	group(c, "attr", "attr", &m.Attr, (*Attr).fields)
	sizeless(c, m.Attr)
	if !m.HasDigest && m.Digest != [32]byte{} {
		c.fail(CodeBadMessage, "digest")
	}
}

// sizeless refuses to change the size of what is uploaded.
func sizeless(c *codec, a Attr) {
	if a.Set&AttrSize != 0 {
		c.fail(CodeBadMessage, "attr")
	}
}

// Verified says how a finished copy was checked.
type Verified uint8

// The ways a copy is checked.
const (
	VerifiedDigest  Verified = 0 // both sides hashed every byte they handled
	VerifiedSampled Verified = 1 // byte counts, and kept chunks in part
	VerifiedFull    Verified = 2 // everything was read back
)

// Committed answers Commit and Put.
type Committed struct {
	Verified Verified
	Volatile bool // a power cut may undo it
}

func (*Committed) kind() Type { return TypeCommitted }

func (m *Committed) fields(c *codec) {
	octet(c, "verified", &m.Verified, VerifiedFull)
	boolean(c, "volatile", &m.Volatile)
}

// Suspend ends an upload and keeps what arrived.
type Suspend struct{}

func (*Suspend) kind() Type { return TypeSuspend }

func (*Suspend) fields(*codec) {}

// Abort ends an upload and throws away what arrived.
type Abort struct{}

func (*Abort) kind() Type { return TypeAbort }

func (*Abort) fields(*codec) {}
