package protocol

import "fmt"

// A Type is the fifth byte of a frame: which message its body is. Values are
// never changed and never used again.
type Type uint8

// The messages. Types from FirstIgnorable on may be skipped by who does not
// know them.
const (
	TypeHello       Type = 0x01
	TypeServerHello Type = 0x02
	TypeHostProof   Type = 0x03
	TypeOffer       Type = 0x04
	TypeOffered     Type = 0x05
	TypeProve       Type = 0x06
	TypeWelcome     Type = 0x07
	TypeJoin        Type = 0x08
	TypeJoined      Type = 0x09

	TypePing     Type = 0x10
	TypePong     Type = 0x11
	TypeGoodbye  Type = 0x12
	TypeFail     Type = 0x13
	TypeOK       Type = 0x14
	TypeCancel   Type = 0x15
	TypeMore     Type = 0x16
	TypeExtend   Type = 0x17
	TypeExtended Type = 0x18

	TypeStat     Type = 0x20
	TypeFound    Type = 0x21
	TypeList     Type = 0x22
	TypeListed   Type = 0x23
	TypeResolve  Type = 0x24
	TypeResolved Type = 0x25
	TypeMeasure  Type = 0x26
	TypeMeasured Type = 0x27
	TypeSum      Type = 0x28
	TypeSummed   Type = 0x29

	TypeMkdir   Type = 0x30
	TypeSymlink Type = 0x31
	TypeLink    Type = 0x32
	TypeRename  Type = 0x33
	TypeRemove  Type = 0x34
	TypeSetAttr Type = 0x35

	TypeOpenDir     Type = 0x40
	TypeOpen        Type = 0x41
	TypeClose       Type = 0x42
	TypeStatFile    Type = 0x43
	TypeSetAttrFile Type = 0x44
	TypeSync        Type = 0x45
	TypeRead        Type = 0x46
	TypeWrite       Type = 0x47
	TypeData        Type = 0x48
	TypeMap         Type = 0x49
	TypeMapped      Type = 0x4a
	TypeHash        Type = 0x4b
	TypeHashed      Type = 0x4c

	TypeGet Type = 0x50
	TypeGot Type = 0x51
	TypePut Type = 0x52

	TypeBegin     Type = 0x60
	TypeBegun     Type = 0x61
	TypeHave      Type = 0x62
	TypeRecheck   Type = 0x63
	TypeBad       Type = 0x64
	TypeAck       Type = 0x65
	TypeCommit    Type = 0x66
	TypeCommitted Type = 0x67
	TypeSuspend   Type = 0x68
	TypeAbort     Type = 0x69

	FirstIgnorable Type = 0x80
)

// A Sender says which sides may send a message.
type Sender uint8

// The sides.
const (
	FromNobody Sender = 0
	FromClient Sender = 1
	FromServer Sender = 2
	FromBoth          = FromClient | FromServer
)

// String names the side as docs/protocol.md does.
func (s Sender) String() string {
	switch s {
	case FromClient:
		return "client"
	case FromServer:
		return "server"
	case FromBoth:
		return "both"
	case FromNobody:
	}
	return "nobody"
}

type typeInfo struct {
	name string
	from Sender
	make func() Message
}

var types = [256]typeInfo{ //nolint:gochecknoglobals // a table
	TypeHello:       {"HELLO", FromClient, func() Message { return new(Hello) }},
	TypeServerHello: {"SERVER_HELLO", FromServer, func() Message { return new(ServerHello) }},
	TypeHostProof:   {"HOST_PROOF", FromServer, func() Message { return new(HostProof) }},
	TypeOffer:       {"OFFER", FromClient, func() Message { return new(Offer) }},
	TypeOffered:     {"OFFERED", FromServer, func() Message { return new(Offered) }},
	TypeProve:       {"PROVE", FromClient, func() Message { return new(Prove) }},
	TypeWelcome:     {"WELCOME", FromServer, func() Message { return new(Welcome) }},
	TypeJoin:        {"JOIN", FromClient, func() Message { return new(Join) }},
	TypeJoined:      {"JOINED", FromServer, func() Message { return new(Joined) }},

	TypePing:     {"PING", FromBoth, func() Message { return new(Ping) }},
	TypePong:     {"PONG", FromBoth, func() Message { return new(Pong) }},
	TypeGoodbye:  {"GOODBYE", FromBoth, func() Message { return new(Goodbye) }},
	TypeFail:     {"FAIL", FromServer, func() Message { return new(Fail) }},
	TypeOK:       {"OK", FromServer, func() Message { return new(OK) }},
	TypeCancel:   {"CANCEL", FromClient, func() Message { return new(Cancel) }},
	TypeMore:     {"MORE", FromClient, func() Message { return new(More) }},
	TypeExtend:   {"EXTEND", FromClient, func() Message { return new(Extend) }},
	TypeExtended: {"EXTENDED", FromServer, func() Message { return new(Extended) }},

	TypeStat:     {"STAT", FromClient, func() Message { return new(Stat) }},
	TypeFound:    {"FOUND", FromServer, func() Message { return new(Found) }},
	TypeList:     {"LIST", FromClient, func() Message { return new(List) }},
	TypeListed:   {"LISTED", FromServer, func() Message { return new(Listed) }},
	TypeResolve:  {"RESOLVE", FromClient, func() Message { return new(Resolve) }},
	TypeResolved: {"RESOLVED", FromServer, func() Message { return new(Resolved) }},
	TypeMeasure:  {"MEASURE", FromClient, func() Message { return new(Measure) }},
	TypeMeasured: {"MEASURED", FromServer, func() Message { return new(Measured) }},
	TypeSum:      {"SUM", FromClient, func() Message { return new(Sum) }},
	TypeSummed:   {"SUMMED", FromServer, func() Message { return new(Summed) }},

	TypeMkdir:   {"MKDIR", FromClient, func() Message { return new(Mkdir) }},
	TypeSymlink: {"SYMLINK", FromClient, func() Message { return new(Symlink) }},
	TypeLink:    {"LINK", FromClient, func() Message { return new(Link) }},
	TypeRename:  {"RENAME", FromClient, func() Message { return new(Rename) }},
	TypeRemove:  {"REMOVE", FromClient, func() Message { return new(Remove) }},
	TypeSetAttr: {"SET_ATTR", FromClient, func() Message { return new(SetAttr) }},

	TypeOpenDir:     {"OPEN_DIR", FromClient, func() Message { return new(OpenDir) }},
	TypeOpen:        {"OPEN", FromClient, func() Message { return new(Open) }},
	TypeClose:       {"CLOSE", FromClient, func() Message { return new(Close) }},
	TypeStatFile:    {"STAT_FILE", FromClient, func() Message { return new(StatFile) }},
	TypeSetAttrFile: {"SET_ATTR_FILE", FromClient, func() Message { return new(SetAttrFile) }},
	TypeSync:        {"SYNC", FromClient, func() Message { return new(Sync) }},
	TypeRead:        {"READ", FromClient, func() Message { return new(Read) }},
	TypeWrite:       {"WRITE", FromClient, func() Message { return new(Write) }},
	TypeData:        {"DATA", FromBoth, func() Message { return new(Data) }},
	TypeMap:         {"MAP", FromClient, func() Message { return new(Map) }},
	TypeMapped:      {"MAPPED", FromServer, func() Message { return new(Mapped) }},
	TypeHash:        {"HASH", FromClient, func() Message { return new(Hash) }},
	TypeHashed:      {"HASHED", FromServer, func() Message { return new(Hashed) }},

	TypeGet: {"GET", FromClient, func() Message { return new(Get) }},
	TypeGot: {"GOT", FromServer, func() Message { return new(Got) }},
	TypePut: {"PUT", FromClient, func() Message { return new(Put) }},

	TypeBegin:     {"BEGIN", FromClient, func() Message { return new(Begin) }},
	TypeBegun:     {"BEGUN", FromServer, func() Message { return new(Begun) }},
	TypeHave:      {"HAVE", FromServer, func() Message { return new(Have) }},
	TypeRecheck:   {"RECHECK", FromClient, func() Message { return new(Recheck) }},
	TypeBad:       {"BAD", FromServer, func() Message { return new(Bad) }},
	TypeAck:       {"ACK", FromServer, func() Message { return new(Ack) }},
	TypeCommit:    {"COMMIT", FromClient, func() Message { return new(Commit) }},
	TypeCommitted: {"COMMITTED", FromServer, func() Message { return new(Committed) }},
	TypeSuspend:   {"SUSPEND", FromClient, func() Message { return new(Suspend) }},
	TypeAbort:     {"ABORT", FromClient, func() Message { return new(Abort) }},
}

// String returns the message's name in docs/protocol.md, or its number.
func (t Type) String() string {
	if name := types[t].name; name != "" {
		return name
	}
	return fmt.Sprintf("type 0x%02x", uint8(t))
}

// Known reports whether this package has the message.
func (t Type) Known() bool { return types[t].make != nil }

// Sender returns who may send the message; FromNobody if it is unknown.
func (t Type) Sender() Sender { return types[t].from }

// Ignorable reports whether a receiver that does not know t skips the frame. It
// answers any other with CodeUnsupported.
func (t Type) Ignorable() bool { return t >= FirstIgnorable }
