package native

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"sync"
	"testing"

	"transferd/internal/testnet"
	"transferd/protocol"
)

// A fake is a server that does what its test wants. It accepts every session.
type fake struct {
	t     *testing.T
	group sync.WaitGroup

	welcome protocol.Welcome
	binding protocol.Binding // of control streams
	noise   string           // before the preface

	// serve gets each control stream behind WELCOME; number counts them from 0.
	serve func(s *stream, number int)

	// joined gets each further stream before its preface is read.
	joined func(s *stream)

	mu    sync.Mutex
	count int
	conns []*testnet.Conn // the server's ends
}

func newFake(t *testing.T, serve func(s *stream, number int)) *fake {
	t.Helper()
	f := &fake{t: t, serve: serve}
	f.welcome = protocol.Welcome{
		Session: [16]byte{1}, Secret: [32]byte{2}, Home: "home", User: "u", Streams: 8,
		Operations: protocol.MinOperations, Handles: protocol.MinHandles, Inline: 64 << 10, Window: protocol.MinWindow,
	}
	return f
}

// pipe returns both ends of a new connection.
func (f *fake) pipe(binding protocol.Binding) (client *Stream, server *stream) {
	c, s := testnet.Pipe()
	f.mu.Lock()
	f.conns = append(f.conns, s)
	f.mu.Unlock()
	client = &Stream{ReadWriteCloser: c, Transport: "ssh", Binding: binding, Bound: []byte("session id")}
	return client, newStream(&Stream{ReadWriteCloser: s, Binding: binding}, protocol.FromClient)
}

func (f *fake) control(context.Context) (*Stream, Prover, error) {
	client, server := f.pipe(f.binding)
	f.mu.Lock()
	number := f.count
	f.count++
	f.mu.Unlock()
	f.group.Go(func() {
		defer server.Close()
		if _, err := f.conns[len(f.conns)-1].Write([]byte(f.noise)); err != nil {
			return
		}
		if f.greet(server) == nil {
			f.serve(server, number)
		}
	})
	return client, nil, nil
}

func (f *fake) greet(s *stream) error {
	if err := errors.Join(s.sendPreface(), s.readPreface(0)); err != nil {
		return err
	}
	if _, err := s.next(); err != nil {
		return err
	}
	hello := &protocol.ServerHello{
		Version: 1, MaxData: protocol.MaxData, Extensions: []protocol.Extension{{Name: extensionXattrs}},
	}
	if err := errors.Join(s.post(0, hello), s.post(0, &f.welcome)); err != nil {
		return err
	}
	s.open()
	return nil
}

func (f *fake) join(context.Context, *protocol.Welcome) (*Stream, error) {
	if f.joined == nil {
		return nil, errors.ErrUnsupported
	}
	client, server := f.pipe(f.welcome.Binding)
	f.group.Go(func() {
		defer server.Close()
		f.joined(server)
	})
	return client, nil
}

// client returns a Client of f that ends with the test.
func (f *fake) client() *Client {
	f.t.Helper()
	c, err := NewClient(f.t.Context(), ClientOptions{Control: f.control, Join: f.join})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		if err := c.Close(); err != nil {
			f.t.Error(err)
		}
		f.group.Wait()
	})
	return c
}

// admit lets a stream join as number, as a server does that has the secret.
func (f *fake) admit(s *stream, secret [32]byte) error {
	if err := errors.Join(s.sendPreface(), s.readPreface(0)); err != nil {
		return err
	}
	m, err := s.next()
	if err != nil {
		return err
	}
	join, ok := m.Message.(*protocol.Join)
	if !ok {
		return violation(m.Type)
	}
	mac := func(role protocol.Role, secret [32]byte) (sum [32]byte) {
		h := hmac.New(sha256.New, secret[:])
		h.Write(protocol.JoinMessage(role, s.conn.Binding, []byte("session id"), f.welcome.Session, join.Stream))
		h.Sum(sum[:0])
		return sum
	}
	if join.MAC != mac(protocol.RoleClient, f.welcome.Secret) {
		f.t.Errorf("JOIN of stream %d has another MAC than docs/protocol.md says", join.Stream)
	}
	s.open()
	return s.post(0, &protocol.Joined{MAC: mac(protocol.RoleServer, secret)})
}

// each calls answer for every frame until the stream ends, and returns why.
func each(s *stream, answer func(f frame)) error {
	for {
		f, err := s.next()
		if err != nil {
			return err
		}
		answer(f)
	}
}

// reply sends m, whatever becomes of it.
func reply(s *stream, id uint64, m protocol.Message) { _ = s.post(id, m) }

// found answers every request for an entry as a good server would, others by
// FAIL, and skips what has no answer.
func found(s *stream) func(f frame) {
	return func(f frame) {
		switch f.Message.(type) {
		case *protocol.Stat, *protocol.StatFile, *protocol.Open:
			reply(s, f.ID, &protocol.Found{Entry: protocol.Entry{Kind: protocol.KindFile, Size: 5}})
		case *protocol.OpenDir, *protocol.Close:
			reply(s, f.ID, &protocol.OK{})
		case *protocol.Cancel, *protocol.More:
		default:
			reply(s, f.ID, &protocol.Fail{Code: protocol.CodeUnsupported})
		}
	}
}

// goodbyeOf returns the code of the GOODBYE that err says came; 0: none did.
func goodbyeOf(err error) protocol.Code {
	var said *PeerError
	if errors.As(err, &said) {
		return said.Code
	}
	return 0
}
