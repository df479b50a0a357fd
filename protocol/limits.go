package protocol

// Version is the only version there is.
const Version = 1

// Preface is what each side sends before its first frame. Its first byte keeps
// it out of text, its last two do not survive a channel that changes line ends.
const Preface = "\x89transfer/1\r\n"

// ALPN is the name of the protocol in TLS.
const ALPN = "transfer/1"

// Subsystem is the name of the protocol in SSH.
const Subsystem = "transfer"

// TCPPort is where a daemon listens unless it is told otherwise.
const TCPPort = 2023

// Labels of TLS exporters (RFC 8446, section 7.5), each of ExporterSize bytes
// and with an empty context.
const (
	LabelHost = "EXPORTER-transfer-host-v1"
	LabelUser = "EXPORTER-transfer-user-v1"
	LabelJoin = "EXPORTER-transfer-join-v1"

	ExporterSize = 32
)

// Namespaces of signatures (OpenSSH, PROTOCOL.sshsig).
const (
	NamespaceHost = "host-v1@transferd"
	NamespaceUser = "user-v1@transferd"
)

// Limits of sizes, in bytes. What is longer is refused before memory is made
// for it.
const (
	// MaxData bounds the payload of a DATA, WRITE, PUT or GOT. A peer may
	// announce less, but not less than MinData.
	MaxData = 1 << 20
	MinData = 64 << 10

	// FrameSlack is how much longer than the payload a frame may be.
	FrameSlack = 64 << 10

	// MaxFrame bounds the body of any frame, MaxHandshakeFrame that of one
	// before WELCOME or JOINED.
	MaxFrame          = MaxData + FrameSlack
	MaxHandshakeFrame = 64 << 10

	// MaxInline bounds a file that travels whole in one PUT or GOT.
	MaxInline = 256 << 10

	MinChunk = 1 << 20 // a chunk is a power of two of bytes
	MaxChunk = 4 << 20
	MaxRead  = MaxChunk // asked for by one READ

	// MinWindow is what every upload and every session may have under way: less
	// than two chunks, and nothing would move while one is acknowledged.
	MinWindow = 2 * MaxChunk

	MaxPath    = 16 << 10 // a path, the target of a symlink, an origin
	MaxName    = 256      // names of users, groups, algorithms, extensions
	MaxMessage = 1 << 10  // text for a person
	MaxBlob    = 16 << 10 // a key, a certificate, a signature, an extension's body
	MaxXattr   = 64 << 10 // the value of an extended attribute; all of an entry fit a frame
)

// Limits of numbers in one message.
const (
	MaxExtensions = 64
	MaxAlgorithms = 32
	MaxKeys       = 32
	MaxEntries    = 4096
	MaxExtents    = 4096
	MaxValues     = 2048
	MaxXattrs     = 128

	// MaxChunks bounds indexes and numbers of chunks: that of the largest file
	// with the smallest chunks.
	MaxChunks = 1 << 63 / MinChunk
)

// What every session has at least.
const (
	MinOperations = 16
	MinHandles    = 16
)

// Limits of time, in seconds.
const (
	PingAfter  = 5  // a stream that has sent nothing for so long sends PING
	DeadAfter  = 15 // a stream that has received nothing for so long is lost
	StdioAfter = 5  // stdio that has not shown its preface by then is none
)

// StdioNoise is how many bytes of a shell may come before stdio's preface.
const StdioNoise = 64 << 10

// JoinWindow is how far behind the highest stream number a join may come.
const JoinWindow = 64
