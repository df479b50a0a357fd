package transport

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"transferd/internal/tree"
	"transferd/internal/wire"
)

// A link is one SSH connection, logged in. It is safe for concurrent use;
// whoever dialled it closes it.
type link struct {
	client *ssh.Client
	wire   *wire.Conn
	log    *slog.Logger
	label  string

	dead    chan struct{} // closed when the connection has ended
	silent  atomic.Bool   // it ended because no answer came
	silence time.Duration
	group   sync.WaitGroup // everything that runs for the connection

	mu       sync.Mutex
	channels int
	most     int // channels that the server allows; 0: not known
}

// startLink serves a connection until it ends.
func startLink(c ssh.Conn, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request, w *wire.Conn, s settings, log *slog.Logger) *link {
	l := &link{
		client: ssh.NewClient(c, chans, reqs), wire: w, log: log, label: s.label(),
		dead: make(chan struct{}), silence: s.interval * time.Duration(s.unanswered+1),
	}
	l.group.Go(func() {
		err := l.client.Wait()
		log.Debug("connection ended", "server", l.label, "reason", err)
		close(l.dead)
	})
	if s.interval > 0 {
		l.group.Go(func() {
			if watch(l.dead, &l.group, l.client, w.Heard, s.interval, s.unanswered) {
				l.silent.Store(true)
				log.Warn("the server does not answer any more", "server", l.label, "seconds", int(l.silence.Seconds()))
				w.Abort()
			}
		})
	}
	return l
}

// alive reports whether the connection stands, as far as is known.
func (l *link) alive() bool {
	select {
	case <-l.dead:
		return false
	default:
		return !l.silent.Load()
	}
}

// close ends the connection and waits for what ran for it.
func (l *link) close() {
	_ = l.client.Close() // it may have ended already, which is as good
	<-l.wire.Done()
	l.group.Wait()
}

// lost is the error for what ran on a connection that has ended.
func (l *link) lost(err error) error {
	switch {
	case l.silent.Load():
		return fmt.Errorf("%s: %w: no answer for %v", l.label, tree.ErrLost, l.silence)
	case err == nil, errors.Is(err, io.EOF):
		return fmt.Errorf("%s: %w", l.label, tree.ErrLost)
	}
	return fmt.Errorf("%s: %w: %w", l.label, tree.ErrLost, err)
}

// load tells how many channels are open, and whether one more may be tried.
func (l *link) load() (channels int, room bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.channels, l.most == 0 || l.channels < l.most
}

// A lane is one SFTP channel.
type lane struct {
	ssh.Channel
	link *link
	once sync.Once
}

// errNoSFTP says that a server does not serve SFTP.
var errNoSFTP = errors.New("the server has no SFTP")

// openLane opens a channel and starts SFTP on it. The error wraps
// tree.ErrLost if the connection has ended, and is an *ssh.OpenChannelError if
// the server allows no more channels.
func (l *link) openLane(ctx context.Context) (*lane, error) {
	type result struct {
		lane *lane
		err  error
	}
	done := make(chan result, 1) // 1: nobody may be left to take it
	l.group.Go(func() {
		opened, err := l.open()
		done <- result{opened, err}
	})
	select {
	case r := <-done:
		return r.lane, r.err
	case <-ctx.Done():
		// OpenChannel cannot be called off: what it brings is given back.
		l.group.Go(func() {
			if r := <-done; r.lane != nil {
				_ = r.lane.Close()
			}
		})
		return nil, context.Cause(ctx)
	}
}

func (l *link) open() (*lane, error) {
	ch, reqs, err := l.client.OpenChannel("session", nil)
	if err != nil {
		var refused *ssh.OpenChannelError
		if errors.As(err, &refused) {
			l.mu.Lock()
			l.most = l.channels
			l.mu.Unlock()
			return nil, err
		}
		return nil, l.lost(err)
	}
	l.mu.Lock()
	l.channels++
	l.mu.Unlock()
	opened := &lane{Channel: ch, link: l}
	l.group.Go(func() { ssh.DiscardRequests(reqs) })
	l.group.Go(func() { l.logStderr(ch.Stderr()) })
	ok, err := ch.SendRequest("subsystem", true, ssh.Marshal(struct{ Name string }{"sftp"}))
	switch {
	case err != nil:
		_ = opened.Close()
		return nil, l.lost(err)
	case !ok:
		_ = opened.Close()
		return nil, errNoSFTP
	}
	return opened, nil
}

// logStderr logs what the server's program complains about, and keeps the
// channel's window from filling with it.
func (l *link) logStderr(r io.Reader) {
	for lines := bufio.NewReaderSize(r, 4096); ; {
		line, _, err := lines.ReadLine()
		if err != nil {
			return
		}
		l.log.Debug("the server says", "server", l.label, "text", escape(string(line)))
	}
}

// Read implements io.Reader; its error says whether the connection was lost.
func (l *lane) Read(p []byte) (int, error) {
	n, err := l.Channel.Read(p)
	if err != nil && l.link.silent.Load() {
		err = l.link.lost(err)
	}
	return n, err
}

// Close ends the channel; the connection stays.
func (l *lane) Close() error {
	var err error
	l.once.Do(func() {
		l.link.mu.Lock()
		l.link.channels--
		l.link.mu.Unlock()
		if err = l.Channel.Close(); errors.Is(err, io.EOF) {
			err = nil // the other end was first
		}
	})
	return err
}
