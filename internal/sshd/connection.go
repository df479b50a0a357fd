package sshd

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"transferd/internal/admission"
	"transferd/internal/session"
	"transferd/internal/transport/sftp"
	"transferd/internal/wire"
)

const (
	// maxChannels is how many channels one connection may have, as in OpenSSH:
	// enough for a client that spreads a copy over several because of SSH's
	// fixed window of 2 MiB. One that asks for much and takes nothing makes each
	// hold 6 MiB.
	maxChannels = 10

	// maxHandles is how many files and directories the channels of one
	// connection may have open together.
	maxHandles = 1024

	// confined is what everybody hears who asks for more than files.
	confined = "this account is confined to file transfer: use sftp, scp (not -O) or transfer"

	// noRoot is what somebody hears whose session cannot be opened.
	noRoot = "the directory of this account cannot be opened: ask who runs this server to look into its log"

	// dismissGrace is how long a client that finds no place is listened to.
	dismissGrace = 10 * time.Second

	// quietGrace is how long Shutdown waits for a channel to become quiet, and
	// quiet is when it is.
	quietGrace = 2 * time.Second
	quiet      = 100 * time.Millisecond
)

// A connection is one client that is logged in.
type connection struct {
	server *Server
	wire   *wire.Conn
	conn   *ssh.ServerConn
	login  Login
	log    *slog.Logger

	cut     context.CancelFunc // ends everything on the connection at once
	data    *moment            // of the last byte on any channel
	handles *sftp.Handles      // of all channels
	gone    chan struct{}      // closed when the connection has ended

	mu        sync.Mutex // guards what follows
	count     int        // of channels, also those not accepted yet
	channels  map[*channel]struct{}
	closed    bool // no new channels
	finishing bool // those that there are have to end

	guests sync.WaitGroup // native sessions that work on the session

	open    sync.Mutex // held while the session is being opened
	session *session.Session
	done    func() error
}

// serve returns when the client is gone and everything that it began has ended.
func (c *connection) serve(ctx context.Context, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
	var running, serving sync.WaitGroup
	watched := make(chan struct{})
	running.Go(func() { c.watch(ctx, watched) })
	running.Go(func() { c.answer(ctx, requests) })
	for request := range channels {
		ch := c.accept(ctx, request)
		if ch == nil {
			continue
		}
		serving.Go(func() {
			defer c.forget(ch)
			defer admission.Recovered(ctx, c.log)
			ch.serve(ctx)
		})
	}
	close(c.gone)
	serving.Wait()
	close(watched)
	running.Wait()
	c.closeSession(ctx)
}

// accept takes a new channel, or refuses it and returns nil.
func (c *connection) accept(ctx context.Context, request ssh.NewChannel) *channel {
	if reason, text := c.admit(request.ChannelType()); text != "" {
		c.log.InfoContext(ctx, "channel refused", "type", admission.Short(request.ChannelType()), "reason", text)
		if err := request.Reject(reason, text); err != nil {
			c.log.DebugContext(ctx, "refuse a channel", "err", err)
		}
		return nil
	}
	opened, requests, err := request.Accept()
	ch := newChannel(c, opened, requests)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || c.finishing {
		c.count--
		if err == nil {
			err = opened.Close()
		}
		c.log.DebugContext(ctx, "channel not accepted", "err", err)
		return nil
	}
	c.channels[ch] = struct{}{}
	return ch
}

// admit counts a channel in, or says why not.
func (c *connection) admit(kind string) (ssh.RejectionReason, string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case kind != "session":
		return ssh.Prohibited, confined
	case c.closed:
		return ssh.ResourceShortage, "no further channels on this connection"
	case c.count >= maxChannels:
		return ssh.ResourceShortage, "too many channels on this connection"
	}
	c.count++
	return 0, ""
}

// busy reports whether something that a client has asked for is still running.
func (c *connection) busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for ch := range c.channels {
		if ch.busy() {
			return true
		}
	}
	return false
}

func (c *connection) forget(ch *channel) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count--
	delete(c.channels, ch)
}

// answer handles the requests that belong to no channel.
func (c *connection) answer(ctx context.Context, requests <-chan *ssh.Request) {
	for r := range requests {
		switch r.Type {
		case "no-more-sessions@openssh.com":
			c.mu.Lock()
			c.closed = true
			c.mu.Unlock()
		case "tcpip-forward", "streamlocal-forward@openssh.com":
			c.log.InfoContext(ctx, "forwarding refused", "type", r.Type)
		}
		// "keepalive@openssh.com" too is content with a refusal.
		if !r.WantReply {
			continue
		}
		if err := r.Reply(false, nil); err != nil {
			c.log.DebugContext(ctx, "answer a request", "err", err)
		}
	}
}

// openSession returns the session of this login; all channels share it.
func (c *connection) openSession(ctx context.Context) (*session.Session, error) {
	c.open.Lock()
	defer c.open.Unlock()
	if c.session != nil {
		return c.session, nil
	}
	var err error
	c.session, c.done, err = c.server.accounts.Open(ctx, c.login)
	return c.session, err
}

func (c *connection) closeSession(ctx context.Context) {
	c.guests.Wait()
	c.open.Lock()
	defer c.open.Unlock()
	if c.done == nil {
		return
	}
	if err := c.done(); err != nil {
		c.log.WarnContext(ctx, "close the session", "err", err)
	}
}

// finish brings every channel to its end: each is closed as soon as it is
// quiet, and after quietGrace in any case. Streams of the native protocol end
// by themselves, for their server is shut down too. Then the connection is closed.
func (c *connection) finish(ctx context.Context) {
	c.mu.Lock()
	c.closed, c.finishing = true, true
	channels := slices.Collect(maps.Keys(c.channels))
	c.mu.Unlock()
	limit, cancel := context.WithTimeout(ctx, quietGrace)
	defer cancel()
	var closing sync.WaitGroup
	for _, ch := range channels {
		closing.Go(func() {
			if ch.stream.Load() {
				ch.waitServed(ctx)
				return
			}
			ch.waitQuiet(limit)
			// The client answers with a close of its own. Until then what it
			// has sent before is still read, so nothing that arrived is lost.
			if err := ch.ssh.Close(); err != nil {
				c.log.DebugContext(ctx, "close a channel", "err", err)
			}
			ch.waitServed(ctx)
		})
	}
	closing.Wait()
	c.close(ctx)
}

// close ends the connection; its channels then end by themselves, having taken
// what had arrived.
func (c *connection) close(ctx context.Context) {
	if err := c.conn.Close(); err != nil {
		c.log.DebugContext(ctx, "close the connection", "err", err)
	}
}

// hangUp closes conn and takes what has come on it meanwhile: x/crypto's reader
// does not end before it has handed that on.
func hangUp(conn ssh.Conn, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
	_ = conn.Close() // it may have ended already
	var discarding sync.WaitGroup
	discarding.Go(func() { ssh.DiscardRequests(requests) })
	defer discarding.Wait()
	for request := range channels {
		_ = request.Reject(ssh.ResourceShortage, "closing")
	}
}

// dismiss tells a client that there is no place for it, which SSH can do only
// when it asks for a channel. It returns when the client is gone.
func dismiss(conn ssh.Conn, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request, reason error) {
	timer := time.AfterFunc(dismissGrace, func() { _ = conn.Close() })
	defer timer.Stop()
	var discarding sync.WaitGroup
	discarding.Go(func() { ssh.DiscardRequests(requests) })
	defer discarding.Wait()
	for request := range channels {
		_ = request.Reject(ssh.ResourceShortage, reason.Error()) // or it has gone
	}
}
