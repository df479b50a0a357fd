package sshd

import (
	"context"
	"sync"
	"time"

	"transferd/internal/admission"
	"transferd/internal/session"
	"transferd/internal/transport/native"
	"transferd/protocol"
)

// closeGrace is how long a client may take to answer that a channel was closed,
// before its whole connection is. What is on its way to us comes first.
const closeGrace = 15 * time.Second

// native serves a stream of the native protocol, be it the first of a session
// or a further one.
func (ch *channel) native(ctx context.Context) error {
	c := ch.conn
	if err := c.login.Files(); err != nil {
		c.log.InfoContext(ctx, "transfer refused", "reason", err)
		return ch.refuse(err.Error())(ctx)
	}
	ch.stream.Store(true)
	defer ch.stream.Store(false)
	c.log.DebugContext(ctx, "native stream begins")
	guest := &guestOf{channel: ch}
	stream := &streamChannel{channel: ch}
	defer stream.stop()
	err := c.server.native.Serve(ctx, &native.Stream{
		ReadWriteCloser: stream,
		Transport:       "ssh",
		Binding:         protocol.BindingSSH,
		Bound:           c.conn.SessionID(),
		Remote:          c.login.Remote,
	}, native.ServeOptions{Guest: guest.open, Entered: guest.entered})
	guest.left()
	// Whatever it was: a lost connection is the client's affair, and the client
	// has been told everything else.
	c.log.DebugContext(ctx, "native stream ends", "err", err)
	return nil
}

// A guestOf is the native session that may begin on a channel.
type guestOf struct {
	channel *channel

	mu    sync.Mutex
	done  func() // gives the session back; nil: it was not opened
	begun bool   // its end is told by Guest.Done
}

// open returns the session of the login, which SFTP shares.
func (g *guestOf) open(ctx context.Context) (native.Guest, error) {
	c := g.channel.conn
	tree, err := c.openSession(ctx)
	if err != nil {
		c.log.ErrorContext(ctx, "open the session", "err", err)
		return native.Guest{}, &native.Refusal{Code: protocol.CodeFailure, Message: noRoot}
	}
	c.guests.Add(1)
	done := sync.OnceFunc(c.guests.Done)
	g.mu.Lock()
	g.done = done
	g.mu.Unlock()
	return native.Guest{
		User:     c.login.User,
		Tree:     tree,
		Home:     ".",
		Confined: true,
		ReadOnly: tree.Login().Permissions&(session.Write|session.Delete) == 0,
		Admit:    admission.Again(context.WithoutCancel(ctx), c.server.accounts, c.login),
		Done:     done,
	}, nil
}

// entered notes that a session has begun.
func (g *guestOf) entered(_ string, control bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.begun = g.begun || control
	return nil
}

// left gives the session back that did not begin after all.
func (g *guestOf) left() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.done != nil && !g.begun {
		g.done()
	}
}

// A streamChannel is a channel whose Close ends Read and Write, also if the
// client does not answer it: then its connection goes.
type streamChannel struct {
	*channel

	mu   sync.Mutex
	late *time.Timer
}

// Close implements io.Closer. What was written before still goes out.
func (s *streamChannel) Close() error {
	s.mu.Lock()
	if s.late == nil {
		s.late = time.AfterFunc(closeGrace, s.conn.cut)
	}
	s.mu.Unlock()
	return s.ssh.Close()
}

// stop is called when nobody reads or writes any more.
func (s *streamChannel) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.late != nil {
		s.late.Stop()
	}
}
