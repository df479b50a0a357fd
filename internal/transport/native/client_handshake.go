package native

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"transferd/protocol"
)

// ErrNotNative says that the other end did not answer in the native protocol at
// all: an old server, something else, or a connection that ended at once.
var ErrNotNative = errors.New("the other end does not answer in the native protocol")

const (
	// answerWithin bounds the wait for each step of the server in a handshake. It
	// is longer than the server gives all of it.
	answerWithin = 30 * time.Second

	// software is what the client says that it is.
	software = "transfer"

	// offerSize bounds the keys of an OFFER, so that it fits its frame.
	offerSize = protocol.MaxHandshakeFrame - 8<<10
)

var errSlowHandshake = errors.New("the other end did not answer in time")

// A handshake is a control stream on its way to WELCOME.
type handshake struct {
	st     *stream
	prover Prover

	transcript protocol.Transcript
}

// connect dials a control stream and begins a session on it.
func (c *Client) connect(ctx context.Context) (*clientSession, error) {
	conn, prover, err := c.o.Control(ctx)
	if err != nil {
		return nil, err
	}
	st := newStream(conn, protocol.FromServer)
	stop := context.AfterFunc(ctx, func() { st.fail(ctx.Err()) })
	s, err := c.greet(ctx, &handshake{st: st, prover: prover})
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err == nil {
		c.o.Log.DebugContext(ctx, "native session begun", "server", c.o.Label, "user", s.welcome.User, "software", s.hello.Software)
		return s, nil
	}
	st.Close()
	if ended := ctx.Err(); ended != nil {
		return nil, ended
	}
	var said *PeerError
	switch {
	case !errors.As(err, &said):
	case prover != nil:
		err = prover.Refused(said)
	case said.Code != protocol.CodeShutdown && said.Code != protocol.CodeLimit:
		err = said // a lost connection would be tried again
	}
	return nil, err
}

// greet is the handshake of a control stream.
func (c *Client) greet(ctx context.Context, h *handshake) (*clientSession, error) {
	hello := &protocol.Hello{
		MinVersion: protocol.Version,
		MaxVersion: protocol.Version,
		MaxData:    protocol.MaxData,
		Software:   software,
	}
	_, _ = rand.Read(hello.Nonce[:]) // it never fails
	if h.prover != nil {
		hello.Algorithms = h.prover.Algorithms()
	}
	if c.o.Compress != CompressOff {
		hello.Extensions = []protocol.Extension{{Name: extensionZstd}}
	}
	frame, err := protocol.Append(nil, 0, hello)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(h.st.sendPreface(), h.st.sendRaw(frame)); err != nil {
		return nil, err
	}
	if err := awaitPreface(h.st, c.o.Patience); err != nil {
		return nil, err
	}
	m, err := h.next(protocol.TypeServerHello)
	if err != nil {
		return nil, err
	}
	answer := m.(*protocol.ServerHello)
	if answer.Version != protocol.Version {
		h.st.goodbye(protocol.CodeVersion, "")
		return nil, fmt.Errorf("the server wants version %d of the native protocol", answer.Version)
	}
	h.transcript.Hello = frame[protocol.HeaderSize:]
	h.transcript.ServerHello = slices.Clone(h.st.rawBody())
	welcome, err := h.identify(ctx)
	if err != nil {
		return nil, err
	}
	if welcome.Inline > answer.MaxData {
		h.st.goodbye(protocol.CodeBadMessage, "inline is above max_data")
		return nil, &lostError{violation(protocol.TypeWelcome)}
	}
	h.st.open()
	s := newClientSession(c, h.st, answer, welcome)
	s.bound = slices.Concat(hello.Nonce[:], answer.Nonce[:])
	return s, nil
}

// awaitPreface reads the server's preface; a shell before stdio may say
// something first.
func awaitPreface(st *stream, stdio time.Duration) error {
	noise, patience := 0, answerWithin
	if st.conn.Binding == protocol.BindingStdio {
		noise, patience = protocol.StdioNoise, cmp.Or(stdio, protocol.StdioAfter*time.Second)
	}
	timer := time.AfterFunc(patience, func() { st.fail(errSlowHandshake) })
	defer timer.Stop()
	if err := st.readPreface(noise); err != nil {
		return fmt.Errorf("%w (%w)", ErrNotNative, err)
	}
	return nil
}

// next returns the server's next message, which must be one of want.
func (h *handshake) next(want ...protocol.Type) (protocol.Message, error) {
	return nextOf(h.st, want...)
}

func nextOf(st *stream, want ...protocol.Type) (protocol.Message, error) {
	timer := time.AfterFunc(answerWithin, func() { st.fail(errSlowHandshake) })
	defer timer.Stop()
	f, err := st.next()
	if err == nil && (f.ID != 0 || !slices.Contains(want, f.Type)) {
		err = violation(f.Type)
	}
	var broken *protocol.Error
	if errors.As(err, &broken) {
		st.goodbye(broken.Code, broken.Error())
		return nil, &lostError{err}
	}
	return f.Message, err
}

// identify lets the host prove itself, proves the user, and returns WELCOME.
func (h *handshake) identify(ctx context.Context) (*protocol.Welcome, error) {
	if h.prover == nil {
		m, err := h.next(protocol.TypeWelcome)
		if err != nil {
			return nil, err
		}
		return m.(*protocol.Welcome), nil
	}
	m, err := h.next(protocol.TypeHostProof)
	if err != nil {
		return nil, err
	}
	proof := m.(*protocol.HostProof)
	t := &h.transcript
	t.HostKey = proof.Key
	if t.Exporter, err = h.st.conn.Exporter(protocol.LabelHost); err != nil {
		return nil, err
	}
	if err := h.prover.CheckHost(ctx, proof.Key, proof.Signature, t.HostMessage()); err != nil {
		return nil, err
	}
	if t.Exporter, err = h.st.conn.Exporter(protocol.LabelUser); err != nil {
		return nil, err
	}
	keys, err := h.prover.Keys(ctx)
	if err != nil {
		return nil, err
	}
	said := &PeerError{Code: protocol.CodeAuth, Message: "no public key to log in with"}
	for len(keys) > 0 {
		n := batch(keys)
		welcome, refused, err := h.offer(ctx, keys[:n])
		if welcome != nil || err != nil {
			return welcome, err
		}
		if keys = keys[n:]; refused != nil {
			said = refused
		}
	}
	h.st.goodbye(protocol.CodeDone, "")
	return nil, said
}

// batch returns how many of keys fit an OFFER, at least one.
func batch(keys [][]byte) int {
	size := 0
	for i, key := range keys[:min(len(keys), protocol.MaxKeys)] {
		if size += 4 + len(key); size > offerSize {
			return max(1, i)
		}
	}
	return min(len(keys), protocol.MaxKeys)
}

// offer asks which of keys would do, and tries those. The second result is what
// the server said of the last.
func (h *handshake) offer(ctx context.Context, keys [][]byte) (*protocol.Welcome, *PeerError, error) {
	user := h.prover.User()
	if err := h.st.send(ctx, 0, &protocol.Offer{User: user, Keys: keys}); err != nil {
		return nil, nil, err
	}
	m, err := h.next(protocol.TypeOffered)
	if err != nil {
		return nil, nil, err
	}
	would := m.(*protocol.Offered).Keys
	refused := &PeerError{Code: protocol.CodeAuth, Message: "none of the public keys is known"}
	for i, key := range keys {
		if would&(1<<i) == 0 {
			continue
		}
		signature, err := h.prover.Sign(ctx, key, h.transcript.UserMessage(user, key))
		if errors.Is(err, ErrSkip) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if err := h.st.send(ctx, 0, &protocol.Prove{User: user, Key: key, Signature: signature}); err != nil {
			return nil, nil, err
		}
		m, err := h.next(protocol.TypeWelcome, protocol.TypeFail)
		if err != nil {
			return nil, nil, err
		}
		switch m := m.(type) {
		case *protocol.Welcome:
			return m, nil, nil
		case *protocol.Fail:
			refused = &PeerError{Code: m.Code, Message: m.Message}
		}
	}
	return nil, refused, nil
}
