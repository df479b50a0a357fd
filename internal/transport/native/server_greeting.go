package native

import (
	"context"
	"crypto/rand"
	"errors"

	"transferd/internal/tree"
	"transferd/protocol"
)

const (
	// maxProofs is how many PROVE a stream may try, and maxOffered how many keys
	// it may ask for; an OFFER without keys counts as one.
	maxProofs  = 6
	maxOffered = 128
)

// The limits of a session that its WELCOME tells.
const (
	sessionStreams    = 8
	sessionOperations = 1024
	sessionHandles    = 256

	// sessionWindow is far above what is held in memory, which the allowances
	// bound: with the windows of several uploads together it would otherwise be
	// the acknowledgements, which wait for the disk, that set the speed.
	sessionWindow = 1 << 30
)

// A greeting is the handshake of one stream, at the server's end.
type greeting struct {
	server *Server
	stream *stream
	o      *ServeOptions

	hello       *protocol.Hello
	script      protocol.Transcript
	serverNonce [32]byte
}

// run returns the stream when it is open, or can be opened by the client's next
// frame.
func (g *greeting) run(ctx context.Context) (*serverStream, error) {
	if err := g.stream.readPreface(0); err != nil {
		return nil, err
	}
	m, err := g.next()
	if err != nil {
		return nil, err
	}
	switch m := m.(type) {
	case *protocol.Hello:
		g.hello = m
		g.script.Hello = append([]byte(nil), g.stream.rawBody()...)
		return g.begin(ctx)
	case *protocol.Join:
		return g.join(m)
	}
	return nil, badState(m)
}

func badState(m protocol.Message) error {
	return &protocol.Error{Code: protocol.CodeBadState, Type: protocol.TypeOf(m)}
}

// next returns the next message of a handshake. Whatever is wrong with one ends
// it.
func (g *greeting) next() (protocol.Message, error) {
	f, err := g.stream.next()
	switch {
	case err != nil:
		return nil, err
	case f.Refused != nil:
		return nil, f.Refused
	case f.Message == nil || f.ID != 0:
		return nil, &protocol.Error{Code: protocol.CodeBadState, Type: f.Type}
	}
	return f.Message, nil
}

func (g *greeting) send(ctx context.Context, m protocol.Message) error {
	return g.stream.send(ctx, 0, m)
}

// begin is the handshake of a control stream.
func (g *greeting) begin(ctx context.Context) (*serverStream, error) {
	if g.hello.MinVersion > protocol.Version || g.hello.MaxVersion < protocol.Version {
		return nil, &Refusal{Code: protocol.CodeVersion, Message: "this server speaks version 1 alone"}
	}
	if err := g.sayHello(); err != nil {
		return nil, err
	}
	guest, err := g.guest(ctx)
	if err != nil {
		return nil, err
	}
	if guest.Tree == nil {
		return nil, errors.New("a guest without a tree")
	}
	on, err := g.welcome(ctx, &guest)
	if err != nil && guest.Done != nil {
		guest.Done()
	}
	return on, err
}

// sayHello sends SERVER_HELLO, whose body is signed as it travels. Whether the
// tree has extended attributes shows only when it is asked for them.
func (g *greeting) sayHello() error {
	_, _ = rand.Read(g.serverNonce[:]) // never fails (crypto/rand)
	frame, err := protocol.Append(nil, 0, &protocol.ServerHello{
		Version:    protocol.Version,
		Nonce:      g.serverNonce,
		MaxData:    protocol.MaxData,
		Software:   g.server.c.Software,
		Extensions: []protocol.Extension{{Name: extensionZstd}, {Name: extensionXattrs}},
	})
	if err != nil {
		return err
	}
	g.script.ServerHello = frame[protocol.HeaderSize:]
	return g.stream.sendRaw(frame)
}

// guest finds out who is there.
func (g *greeting) guest(ctx context.Context) (Guest, error) {
	if g.o.Gate == nil {
		return g.o.Guest(ctx)
	}
	if err := g.proveHost(ctx); err != nil {
		return Guest{}, err
	}
	for offered, proofs := 0, 0; ; {
		m, err := g.next()
		if err != nil {
			return Guest{}, err
		}
		switch m := m.(type) {
		case *protocol.Offer:
			if offered += max(1, len(m.Keys)); offered > maxOffered {
				return Guest{}, &Refusal{Code: protocol.CodeLimit, Message: "too many keys"}
			}
			if err := g.answerOffer(ctx, m); err != nil {
				return Guest{}, err
			}
		case *protocol.Prove:
			guest, err := g.checkProof(ctx, m)
			if err == nil {
				return guest, nil
			}
			var refusal *Refusal
			if !errors.As(err, &refusal) {
				return Guest{}, err
			}
			if err := g.send(ctx, &protocol.Fail{Code: refusal.Code, Message: shorten(refusal.Message)}); err != nil {
				return Guest{}, err
			}
			if proofs++; proofs >= maxProofs {
				return Guest{}, &Refusal{Code: protocol.CodeAuth, Message: "too many proofs", Err: refusal}
			}
		default:
			return Guest{}, badState(m)
		}
	}
}

func (g *greeting) proveHost(ctx context.Context) error {
	exporter, err := g.stream.conn.Exporter(protocol.LabelHost)
	if err != nil {
		return err
	}
	key, signature, err := g.o.Gate.Proof(ctx, g.hello.Algorithms, func(key []byte) []byte {
		script := g.script
		script.Exporter, script.HostKey = exporter, key
		return script.HostMessage()
	})
	if err != nil {
		return err
	}
	g.script.HostKey = key
	if g.script.Exporter, err = g.stream.conn.Exporter(protocol.LabelUser); err != nil {
		return err
	}
	return g.send(ctx, &protocol.HostProof{Key: key, Signature: signature})
}

func (g *greeting) answerOffer(ctx context.Context, m *protocol.Offer) error {
	keys, err := g.o.Gate.Offer(ctx, m.User, m.Keys)
	if err != nil {
		return err
	}
	return g.send(ctx, &protocol.Offered{Keys: keys & (1<<len(m.Keys) - 1)})
}

func (g *greeting) checkProof(ctx context.Context, m *protocol.Prove) (Guest, error) {
	return g.o.Gate.Prove(ctx, m.User, m.Key, m.Signature, g.script.UserMessage(m.User, m.Key))
}

// welcome begins the session of guest.
func (g *greeting) welcome(ctx context.Context, guest *Guest) (*serverStream, error) {
	if g.o.Entered != nil {
		if err := g.o.Entered(guest.User, true); err != nil {
			return nil, err
		}
	}
	one := newServerSession(g, guest)
	if g.o.Named != nil {
		g.o.Named(one.name)
	}
	if err := g.server.register(one); err != nil {
		return nil, err
	}
	if err := g.send(ctx, g.welcomeOf(one)); err != nil {
		g.server.unregister(one)
		one.cancel(err)
		one.cutOff(err)
		return nil, err
	}
	g.stream.open()
	one.watchIdle()
	return one.control, nil
}

func (g *greeting) welcomeOf(one *serverSession) *protocol.Welcome {
	m := &protocol.Welcome{
		Session:    one.name,
		Secret:     one.secret,
		User:       one.guest.User,
		Home:       one.guest.Home.String(),
		Streams:    sessionStreams,
		Operations: sessionOperations,
		Handles:    sessionHandles,
		Inline:     uint32(one.inline()), //nolint:gosec // at most MaxInline
		Window:     sessionWindow,
	}
	if one.guest.Home == "" {
		m.Home = tree.Root.String()
	}
	if g.stream.conn.Binding != protocol.BindingTLS {
		m.Binding = g.stream.conn.Binding
	}
	if g.server.c.TCPPort != nil {
		if m.TCPPort = g.server.c.TCPPort(); m.TCPPort != 0 {
			m.TLSKey = g.server.c.TLSKey
		}
	}
	if one.guest.Confined {
		m.Flags |= protocol.WelcomeConfined
	}
	if one.guest.ReadOnly {
		m.Flags |= protocol.WelcomeReadOnly
	}
	return m
}
