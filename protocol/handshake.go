package protocol

import "math"

// Hello is the client's first message on a control stream.
type Hello struct {
	MinVersion uint16
	MaxVersion uint16
	Nonce      [32]byte
	MaxData    uint32 // the largest payload that the sender takes
	Software   string
	Algorithms []string // of host keys, the best liked first; over TCP only
	Extensions []Extension
}

// An Extension is something beyond this version that the sender can do.
type Extension struct {
	Name  string
	Value []byte
}

func (x *Extension) fields(c *codec) {
	c.text("name", &x.Name, MaxName)
	c.blob("value", &x.Value, MaxBlob)
}

func (*Hello) kind() Type { return TypeHello }

func (m *Hello) fields(c *codec) {
	c.u16("min_version", &m.MinVersion)
	c.u16("max_version", &m.MaxVersion)
	c.bytes32("nonce", &m.Nonce)
	between(c, "max_data", &m.MaxData, MinData, MaxData)
	c.text("software", &m.Software, MaxName)
	list(c, "algorithms", "text", &m.Algorithms, MaxAlgorithms, 2, func(s *string, c *codec) { c.text("algorithms", s, MaxName) })
	list(c, "extensions", "extension", &m.Extensions, MaxExtensions, 6, (*Extension).fields)
}

// ServerHello answers Hello.
type ServerHello struct {
	Version    uint16 // of those the client named
	Nonce      [32]byte
	MaxData    uint32
	Software   string
	Extensions []Extension
}

func (*ServerHello) kind() Type { return TypeServerHello }

func (m *ServerHello) fields(c *codec) {
	c.u16("version", &m.Version)
	c.bytes32("nonce", &m.Nonce)
	between(c, "max_data", &m.MaxData, MinData, MaxData)
	c.text("software", &m.Software, MaxName)
	list(c, "extensions", "extension", &m.Extensions, MaxExtensions, 6, (*Extension).fields)
}

// HostProof proves the host key, over TCP only.
type HostProof struct {
	Key       []byte // SSH's encoding of the public key or host certificate
	Signature []byte // an SSHSIG without armor
}

func (*HostProof) kind() Type { return TypeHostProof }

func (m *HostProof) fields(c *codec) {
	c.blob("key", &m.Key, MaxBlob)
	c.blob("signature", &m.Signature, MaxBlob)
}

// Offer asks which keys would do.
type Offer struct {
	User string
	Keys [][]byte
}

func (*Offer) kind() Type { return TypeOffer }

func (m *Offer) fields(c *codec) {
	c.text("user", &m.User, MaxName)
	list(c, "keys", "blob", &m.Keys, MaxKeys, 4, func(b *[]byte, c *codec) { c.blob("keys", b, MaxBlob) })
}

// Offered answers Offer.
type Offered struct {
	Keys uint32 // bit n: the key with index n would do
}

func (*Offered) kind() Type { return TypeOffered }

func (m *Offered) fields(c *codec) { c.u32("keys", &m.Keys) }

// Prove logs in.
type Prove struct {
	User      string
	Key       []byte // public key or user certificate
	Signature []byte
}

func (*Prove) kind() Type { return TypeProve }

func (m *Prove) fields(c *codec) {
	c.text("user", &m.User, MaxName)
	c.blob("key", &m.Key, MaxBlob)
	c.blob("signature", &m.Signature, MaxBlob)
}

// Welcome begins the session.
type Welcome struct {
	Session    [16]byte
	Secret     [32]byte // for joins; never on a joined stream
	TLSKey     [32]byte // SHA-256 of the SubjectPublicKeyInfo of the daemon's TLS certificate
	TCPPort    uint16   // where joins may go over TCP; 0: nowhere
	Binding    Binding  // of joins that do not go over TCP
	Flags      WelcomeFlags
	User       string
	Home       string // path
	Streams    uint32 // at the same time, the control stream among them
	Operations uint32 // unanswered at the same time
	Handles    uint32 // open at the same time
	Inline     uint32 // bytes of the largest file of a PUT or GOT
	Window     uint64 // bytes of DATA, PUT and WRITE without an answer, all together
}

// WelcomeFlags are the flags of a Welcome.
type WelcomeFlags uint8

// What a session may be.
const (
	WelcomeConfined WelcomeFlags = 1 << iota // no path leads out of the root
	WelcomeReadOnly

	welcomeKnown = WelcomeConfined | WelcomeReadOnly
)

func (*Welcome) kind() Type { return TypeWelcome }

func (m *Welcome) fields(c *codec) {
	c.array("session", "bytes16", m.Session[:])
	c.bytes32("secret", &m.Secret)
	c.bytes32("tls_key", &m.TLSKey)
	c.u16("tcp_port", &m.TCPPort)
	octet(c, "binding", &m.Binding, BindingStdio)
	flags(c, "flags", &m.Flags, welcomeKnown)
	c.text("user", &m.User, MaxName)
	c.path("home", &m.Home)
	between(c, "streams", &m.Streams, 1, math.MaxUint32)
	between(c, "operations", &m.Operations, MinOperations, math.MaxUint32)
	between(c, "handles", &m.Handles, MinHandles, math.MaxUint32)
	between(c, "inline", &m.Inline, 0, MaxInline)
	window(c, &m.Window)
	if m.Binding == BindingTLS {
		c.fail(CodeBadMessage, "binding") // tcp_port says it
	}
}

// between is a u32 that is neither below least nor above most.
func between(c *codec, name string, v *uint32, least, most uint32) {
	c.u32(name, v)
	if c.mode != describing && c.err == nil && (*v < least || *v > most) {
		c.fail(CodeBadMessage, name)
	}
}

// Join is the first message on a further stream.
type Join struct {
	Session [16]byte
	Stream  uint32 // never used before in this session
	MAC     [32]byte
}

func (*Join) kind() Type { return TypeJoin }

func (m *Join) fields(c *codec) {
	c.array("session", "bytes16", m.Session[:])
	c.u32("stream", &m.Stream)
	c.bytes32("mac", &m.MAC)
}

// Joined answers Join.
type Joined struct {
	MAC [32]byte
}

func (*Joined) kind() Type { return TypeJoined }

func (m *Joined) fields(c *codec) { c.bytes32("mac", &m.MAC) }
