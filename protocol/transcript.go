package protocol

import "encoding/binary"

// A Binding says to what a stream is bound that joins a session.
type Binding uint8

// The bindings.
const (
	BindingNone  Binding = 0 // no joins but over TCP
	BindingTLS   Binding = 1 // the exporter of the joining connection with LabelJoin
	BindingSSH   Binding = 2 // the session identifier of the SSH connection
	BindingStdio Binding = 3 // the nonces of HELLO and SERVER_HELLO, one behind the other
)

// A Role is who authenticates a join.
type Role byte

// The roles.
const (
	RoleClient Role = 'c'
	RoleServer Role = 's'
)

// First texts of what is signed and authenticated.
const (
	contextHost = "transfer/1 host"
	contextUser = "transfer/1 user"
	contextJoin = "transfer/1 join"
)

// A Transcript is what both sides know when an identity is proven. The hellos
// are the bodies of their frames, exactly as they travelled.
type Transcript struct {
	Hello       []byte
	ServerHello []byte
	Exporter    []byte // with LabelHost or LabelUser
	HostKey     []byte
}

// HostMessage is what the host key signs, in NamespaceHost. Exporter is the one
// with LabelHost.
func (t Transcript) HostMessage() []byte {
	return t.message(contextHost)
}

// UserMessage is what the user's key signs, in NamespaceUser. Exporter is the
// one with LabelUser.
func (t Transcript) UserMessage(user string, key []byte) []byte {
	return appendString(appendString(t.message(contextUser), []byte(user)), key)
}

func (t Transcript) message(context string) []byte {
	b := appendString(nil, []byte(context))
	b = appendString(b, t.Hello)
	b = appendString(b, t.ServerHello)
	b = appendString(b, t.Exporter)
	return appendString(b, t.HostKey)
}

// JoinMessage is what HMAC-SHA256 with the session's secret makes the MAC of
// Join (RoleClient) and of Joined (RoleServer) from. bound is what binding says.
func JoinMessage(role Role, binding Binding, bound []byte, session [16]byte, stream uint32) []byte {
	b := appendString(nil, []byte(contextJoin))
	b = append(b, byte(role), byte(binding))
	b = appendString(b, bound)
	b = append(b, session[:]...)
	return binary.BigEndian.AppendUint32(b, stream)
}

// appendString appends an SSH string: a length (u32) and the bytes.
func appendString(dst, s []byte) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(s))), s...) //nolint:gosec // parts of a frame
}
