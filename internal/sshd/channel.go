package sshd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"golang.org/x/crypto/ssh"

	"transferd/internal/admission"
	"transferd/internal/transport/sftp"
	"transferd/protocol"
)

// A channel is one session channel (RFC 4254, section 6): one SFTP session, one
// stream of the native protocol, or a refusal.
type channel struct {
	conn     *connection
	ssh      ssh.Channel
	requests <-chan *ssh.Request
	served   chan struct{} // closed when nothing runs on it any more

	raw     atomic.Bool  // the client's terminal is in raw mode
	serving atomic.Bool  // there is an SFTP session on it
	stream  atomic.Bool  // there is a stream of the native protocol on it
	reading atomic.Bool  // waiting for the client
	writing atomic.Int32 // Writes that wait for the client
	data    *moment      // of the last byte
}

func newChannel(c *connection, opened ssh.Channel, requests <-chan *ssh.Request) *channel {
	return &channel{conn: c, ssh: opened, requests: requests, served: make(chan struct{}), data: newMoment()}
}

// serve returns when the channel is closed and what ran on it has ended. A
// channel runs one thing; what is asked for after that is refused.
func (ch *channel) serve(ctx context.Context) {
	running := false
	defer func() {
		if !running {
			close(ch.served)
		}
		<-ch.served
	}()
	for r := range ch.requests {
		what, ok := ch.wish(ctx, r)
		start := what != nil && !running
		if r.WantReply {
			if err := r.Reply(ok || start, nil); err != nil {
				ch.conn.log.DebugContext(ctx, "answer a request", "type", admission.Short(r.Type), "err", err)
			}
		}
		if start {
			running = true
			go ch.run(ctx, what)
		}
	}
}

// wish returns what r wants to be run, if anything, and whether it gets a yes
// although it runs nothing.
func (ch *channel) wish(ctx context.Context, r *ssh.Request) (what func(context.Context) error, ok bool) {
	switch r.Type {
	case "subsystem":
		var wanted struct{ Name string }
		if ssh.Unmarshal(r.Payload, &wanted) == nil {
			switch {
			case wanted.Name == "sftp":
				return ch.sftp, false
			case wanted.Name == protocol.Subsystem && ch.conn.server.native != nil:
				return ch.native, false
			}
		}
		ch.conn.log.InfoContext(ctx, "subsystem refused", "name", admission.Short(wanted.Name))
		return ch.refuse(confined), false
	case "exec", "shell":
		ch.conn.log.InfoContext(ctx, "command refused", "type", r.Type)
		return ch.refuse(confined), false
	case "pty-req":
		// There is no pty, but a refusal here would end ssh before it has heard
		// why the shell, its next wish, is refused.
		ch.raw.Store(true)
		return nil, true
	}
	return nil, false
}

// run closes the channel when what it runs has ended.
func (ch *channel) run(ctx context.Context, what func(context.Context) error) {
	defer close(ch.served)
	status := uint32(1)
	defer func() {
		// A client that has gone already gets no status.
		_, _ = ch.ssh.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
		_ = ch.ssh.Close()
	}()
	defer admission.Recovered(ctx, ch.conn.log)
	switch err := what(ctx); {
	case err == nil:
		status = 0
	case errors.Is(err, errTold):
	case errors.Is(err, io.ErrUnexpectedEOF):
		ch.conn.log.InfoContext(ctx, "the client went away in the middle of a request")
	default:
		ch.conn.log.WarnContext(ctx, "session", "err", err)
	}
}

// errTold is for what the client and the log know already.
var errTold = errors.New("refused")

// refuse returns what tells the client why it does not get what it wants.
func (ch *channel) refuse(text string) func(context.Context) error {
	return func(context.Context) error {
		end := "\n"
		if ch.raw.Load() {
			end = "\r\n"
		}
		_, err := io.WriteString(ch.ssh.Stderr(), text+end)
		return errors.Join(errTold, err)
	}
}

// sftp serves the session of this login.
func (ch *channel) sftp(ctx context.Context) error {
	log := ch.conn.log
	if err := ch.conn.login.Files(); err != nil {
		log.InfoContext(ctx, "sftp refused", "reason", err)
		return ch.refuse(err.Error())(ctx)
	}
	tree, err := ch.conn.openSession(ctx)
	if err != nil {
		log.ErrorContext(ctx, "open the session", "err", err)
		return ch.refuse(noRoot)(ctx)
	}
	log.DebugContext(ctx, "sftp session begins")
	defer log.DebugContext(ctx, "sftp session ends")
	ch.serving.Store(true)
	defer ch.serving.Store(false)
	if err := sftp.Serve(ctx, ch, tree, sftp.ServerOptions{Handles: ch.conn.handles, Gone: ch.conn.gone, Log: log}); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("serve sftp: %w", err)
	}
	return nil
}

// Read implements io.Reader, and notes what Shutdown and the idle timeout
// want to know. A client is idle from the end of its last request on, not from
// its last byte: so the moment is noted before the channel stops being busy.
func (ch *channel) Read(p []byte) (int, error) {
	ch.note()
	ch.reading.Store(true)
	n, err := ch.ssh.Read(p)
	ch.reading.Store(false)
	ch.note()
	return n, err
}

// Write implements io.Writer.
func (ch *channel) Write(p []byte) (int, error) {
	ch.note()
	ch.writing.Add(1)
	n, err := ch.ssh.Write(p)
	ch.writing.Add(-1)
	ch.note()
	return n, err
}

// Close implements io.Closer. The client may still read what was written.
func (ch *channel) Close() error { return ch.ssh.Close() }

func (ch *channel) note() {
	ch.data.now()
	ch.conn.data.now()
}

// busy reports whether a request is being carried out. One that waits for the
// client to take its answer is not: or who never takes it would never be idle.
func (ch *channel) busy() bool {
	return ch.serving.Load() && !ch.reading.Load() && ch.writing.Load() == 0
}

// waitQuiet returns when the client waits for nothing that is still running,
// or when ctx ends.
func (ch *channel) waitQuiet(ctx context.Context) {
	for ctx.Err() == nil {
		silent := ch.data.since()
		if ch.reading.Load() && silent >= quiet {
			return
		}
		wait(ctx, max(quiet-silent, quiet/10))
	}
}

// waitServed returns when nothing runs on the channel any more, or ctx ends.
func (ch *channel) waitServed(ctx context.Context) {
	select {
	case <-ch.served:
	case <-ctx.Done():
	}
}
