package transport

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"transferd/internal/tree"
	"transferd/internal/wire"
	"transferd/protocol"
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
	givenUp atomic.Bool   // it is ended because a channel of no use stays open
	silence time.Duration
	group   sync.WaitGroup // everything that runs for the connection

	mu       sync.Mutex
	channels int
	most     int   // channels that the server allows; 0: not known
	unused   *lane // a channel on which the server refused what was asked
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
		return !l.silent.Load() && !l.givenUp.Load()
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
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		return fmt.Errorf("%s: %w", l.label, tree.ErrLost)
	}
	return fmt.Errorf("%s: %w: %w", l.label, tree.ErrLost, err)
}

// load tells how many channels are open, and whether one more may be tried.
func (l *link) load() (channels int, room bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unused != nil {
		return l.channels - 1, true
	}
	return l.channels, l.most == 0 || l.channels < l.most
}

// A lane is one channel, on which the server has started something.
type lane struct {
	ssh.Channel
	link  *link
	once  sync.Once
	ended chan struct{} // closed when the server has closed it too
	trial atomic.Bool   // it is not known yet whether what was started on it is what was wanted

	// patience ends a trial in which nothing comes; nil: there is none.
	patience atomic.Pointer[time.Timer]
}

// A request is what a lane asks the server to start on it.
type request struct {
	kind    string // of RFC 4254, section 6.5: subsystem or exec
	what    string
	refused error // that says that the server does not
}

// Errors of requests that a server does not grant.
var (
	errNoSFTP   = errors.New("the server has no SFTP")
	errNoNative = errors.New("the server has no subsystem " + protocol.Subsystem)
	errNoExec   = errors.New("the server runs no commands")
)

func sftpSubsystem() request   { return request{"subsystem", "sftp", errNoSFTP} }
func nativeSubsystem() request { return request{"subsystem", protocol.Subsystem, errNoNative} }
func run(command string) request {
	return request{"exec", command, errNoExec}
}

// openLane opens a channel and starts on it what r asks for. The error wraps
// tree.ErrLost if the connection has ended, is an *ssh.OpenChannelError if the
// server allows no more channels, and r.refused if it does not do that.
func (l *link) openLane(ctx context.Context, r request) (*lane, error) {
	type result struct {
		lane *lane
		err  error
	}
	done := make(chan result, 1) // 1: nobody may be left to take it
	// Not of the group, which is waited for: OpenChannel can miss that the
	// connection has just ended, and then never returns.
	go func() {
		opened, err := l.open(r)
		done <- result{opened, err}
	}()
	var err error
	select {
	case r := <-done:
		return r.lane, r.err
	case <-l.dead:
		err = l.lost(nil)
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	// What it brings in spite of that is given back.
	go func() {
		if r := <-done; r.lane != nil {
			_ = r.lane.Close()
		}
	}()
	return nil, err
}

func (l *link) open(r request) (*lane, error) {
	if unused := l.takeUnused(); unused != nil {
		// Most servers go on with the channel of a request that they refused,
		// which saves a round trip, and a place where they allow few channels.
		if opened, err := l.start(unused, r); err == nil || errors.Is(err, r.refused) {
			return opened, err
		}
	}
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
	opened := &lane{Channel: ch, link: l, ended: make(chan struct{})}
	l.group.Go(func() {
		ssh.DiscardRequests(reqs)
		close(opened.ended)
	})
	l.group.Go(func() { l.logStderr(ch.Stderr()) })
	return l.start(opened, r)
}

// start asks for r on opened, which it keeps for another request where the
// server refuses.
func (l *link) start(opened *lane, r request) (*lane, error) {
	ok, err := opened.SendRequest(r.kind, true, ssh.Marshal(struct{ What string }{r.what}))
	switch {
	case err != nil:
		_ = opened.Close()
		return nil, l.lost(err)
	case !ok:
		l.mu.Lock()
		l.unused, opened = opened, l.unused
		l.mu.Unlock()
		if opened != nil {
			_ = opened.Close() // one is enough
		}
		return nil, r.refused
	}
	return opened, nil
}

// takeUnused returns a channel on which nothing was started, nil if there is
// none.
func (l *link) takeUnused() *lane {
	l.mu.Lock()
	defer l.mu.Unlock()
	unused := l.unused
	l.unused = nil
	return unused
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

// partGrace is how long a server may take to close a channel that was of no use.
const partGrace = 2 * time.Second

// part waits for the server to close the channel, for some time: whoever reads
// from it does not return before.
func (l *lane) part() {
	timer := time.NewTimer(partGrace)
	defer timer.Stop()
	select {
	case <-l.ended:
	case <-timer.C:
		l.link.givenUp.Store(true) // first, so that nobody goes on with it
		l.link.wire.Abort()
	}
}

// Read implements io.Reader; its error says whether the connection was lost.
func (l *lane) Read(p []byte) (int, error) {
	n, err := l.Channel.Read(p)
	if n > 0 && l.patience.Load() != nil {
		l.patience.Swap(nil).Stop() // one goroutine reads
	}
	if err != nil && l.link.silent.Load() {
		err = l.link.lost(err)
	}
	return n, err
}

// Close ends the channel; the connection stays, but where the server does not
// let go of a channel that was of no use.
func (l *lane) Close() error {
	var err error
	l.once.Do(func() {
		if l.trial.Load() {
			l.link.group.Go(l.part)
		}
		l.link.mu.Lock()
		l.link.channels--
		l.link.mu.Unlock()
		if err = l.Channel.Close(); errors.Is(err, io.EOF) {
			err = nil // the other end was first
		}
	})
	return err
}
