package sftp

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pkg/sftp"

	"transferd/internal/tree"
)

// defaultData is how much data every server takes in a packet: draft-02,
// section 3. More only where it says so.
const defaultData = 32 << 10

// A lane is one SFTP channel. pkg/sftp's client speaks the plain protocol on
// it; what that client lacks, the extensions, requests that follow each other
// without waiting and data that is not copied about, is put between its packets
// under ids of its own. A lane that broke stays broken.
type lane struct {
	ch    io.ReadWriteCloser
	plain *sftp.Client

	// Set by the greeting.
	ext      map[string]string
	maxRead  int
	maxWrite int
	trip     time.Duration // a round trip to the server; too long at worst

	load  atomic.Int64 // weight of all requests without an answer
	out   outbox
	feed  *io.PipeWriter // packets for pkg/sftp
	group sync.WaitGroup
	dead  chan struct{}

	mu      sync.Mutex
	pending map[uint32]*call // nil: the lane is dead
	lastID  uint32
	err     error // why it died; wraps tree.ErrLost or tree.ErrClosed
}

// newLane greets the server on ch, which belongs to the lane from now on.
func newLane(ctx context.Context, ch io.ReadWriteCloser) (*lane, error) {
	fromServer, feed := io.Pipe()
	l := &lane{
		ch: ch, feed: feed, ext: map[string]string{}, maxRead: defaultData, maxWrite: defaultData,
		pending: map[uint32]*call{}, dead: make(chan struct{}),
	}
	l.out.init()
	l.group.Go(l.write)
	l.group.Go(l.read)

	var err error
	start := time.Now()
	greeted := make(chan struct{})
	l.group.Go(func() {
		defer close(greeted)
		l.plain, err = sftp.NewClientPipe(fromServer, &plainWriter{l: l})
	})
	select {
	case <-greeted:
	case <-ctx.Done():
		l.fail(ctx.Err())
		<-greeted
		err = ctx.Err()
	}
	if err == nil {
		l.trip = time.Since(start) // with the start of the server's program
		err = l.askLimits(ctx)
	}
	if err != nil {
		if cause := l.cause(); cause != nil && ctx.Err() == nil {
			err = cause // says more than that pkg/sftp saw its pipe close
		}
		l.close(err)
		return nil, fmt.Errorf("start sftp: %w", err)
	}
	return l, nil
}

// askLimits learns how large packets may be.
func (l *lane) askLimits(ctx context.Context) error {
	if !l.has(extLimits) {
		return nil
	}
	start := time.Now()
	c, err := l.do(ctx, extended(extLimits))
	if err != nil {
		return err
	}
	l.trip = min(l.trip, time.Since(start))
	r, err := c.as(typeExtendedReply)
	if err != nil {
		return nil //nolint:nilerr // a server that cannot tell gets what every server takes
	}
	packet, read, write := r.uint64(), r.uint64(), r.uint64()
	if r.err != nil {
		return fmt.Errorf("%w: short limits", errBadPacket)
	}
	// An OpenSSH server counts the header of a WRITE, the handle included, to
	// its packet.
	if packet > 2048 && write > packet-1024 {
		write = packet - 1024
	}
	l.maxRead = dataLimit(read)
	l.maxWrite = dataLimit(write)
	return nil
}

func dataLimit(n uint64) int {
	if n == 0 { // the server does not say
		return defaultData
	}
	return int(min(max(n, 512), maxData))
}

// has reports whether the server said in its greeting that it has extension
// name.
func (l *lane) has(name string) bool {
	_, ok := l.ext[name]
	return ok
}

// send puts a request on its way. After an error the call is over; otherwise
// its answer or the end of the lane finishes it. Requests of one goroutine
// reach the server in order.
func (l *lane) send(ctx context.Context, r query, c *call) error {
	if err := l.out.reserve(ctx, len(r)); err != nil {
		return err
	}
	if err := l.register(r, c); err != nil {
		l.out.release(len(r))
		return err
	}
	l.out.put(r)
	return nil
}

// post sends a small request at once and cares for no answer.
func (l *lane) post(r query) {
	c := newCall()
	c.then = func(*call) {}
	if l.register(r, c) != nil {
		return // a dead lane has no handles to close
	}
	l.out.force(r)
}

// do sends a request and waits for its answer.
func (l *lane) do(ctx context.Context, r query) (*call, error) {
	c := newCall()
	if err := l.send(ctx, r, c); err != nil {
		return nil, err
	}
	return c, c.wait(ctx)
}

// status sends a request whose answer is a status.
func (l *lane) status(ctx context.Context, r query) error {
	c, err := l.do(ctx, r)
	if err != nil {
		return err
	}
	return c.status()
}

func (l *lane) register(r query, c *call) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pending == nil {
		return l.err
	}
	for {
		l.lastID = (l.lastID + 1) &^ ownID
		if _, taken := l.pending[l.lastID|ownID]; !taken {
			break
		}
	}
	id := l.lastID | ownID
	l.pending[id] = c
	l.load.Add(c.weight)
	r.finish(id)
	return nil
}

// write is the goroutine that owns the writing half of the channel.
func (l *lane) write() {
	if err := l.out.drain(l.ch, l.dead); err != nil {
		l.fail(lost(err))
	}
}

// lost says that a lane broke by err. That is never io.EOF, which readers of a
// file would take for its end: a channel of package ssh that the server closed
// returns it from Read and Write alike.
func lost(err error) error {
	if errors.Is(err, io.EOF) {
		err = errors.New("the server closed the channel")
	}
	return fmt.Errorf("%w: %w", tree.ErrLost, err)
}

// read is the goroutine that owns the reading half of the channel.
func (l *lane) read() {
	r := bufio.NewReaderSize(l.ch, 64<<10)
	err := l.readVersion(r)
	for err == nil {
		err = l.readAnswer(r)
	}
	l.fail(lost(err))
}

// readVersion reads the greeting and hands it on to pkg/sftp.
func (l *lane) readVersion(r *bufio.Reader) error {
	head, err := r.Peek(5)
	if err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head)
	if packetType(head[4]) != typeVersion || n < 5 || n > maxPacket {
		text, _ := r.Peek(min(r.Buffered(), 64)) // what is there is enough
		return fmt.Errorf("%w: the server begins with %q; does a shell start-up file on it print text?", errBadPacket, text)
	}
	p := make([]byte, 4+n)
	if _, err := io.ReadFull(r, p); err != nil {
		return err
	}
	for f := (cursor{b: p[headerSize:]}); len(f.b) > 0; {
		name, value := f.text(), f.text()
		if f.err != nil {
			return fmt.Errorf("%w: torn list of extensions", errBadPacket)
		}
		l.ext[name] = value
	}
	_, err = l.feed.Write(p)
	return err
}

// fail breaks the lane: everything that waits on it gets err. Only the first
// reason counts.
func (l *lane) fail(err error) {
	l.mu.Lock()
	if l.pending == nil {
		l.mu.Unlock()
		return
	}
	calls := l.pending
	l.pending, l.err = nil, err
	close(l.dead)
	l.mu.Unlock()

	for _, c := range calls {
		l.load.Add(-c.weight)
		c.err = err
		l.deliver(c)
	}
	_ = l.feed.CloseWithError(err) // never fails
	_ = l.ch.Close()               // it is broken already, or nobody can tell
}

// close ends the lane and waits for its goroutines.
func (l *lane) close(err error) {
	l.fail(err)
	l.group.Wait()
	if l.plain != nil {
		_ = l.plain.Close() // its pipe is closed
	}
}

// cause returns why the lane broke, nil while it stands.
func (l *lane) cause() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// enter runs fn beside the caller, as one that close waits for. It reports
// whether the lane still stands.
func (l *lane) enter(fn func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pending == nil {
		return false
	}
	l.group.Go(fn)
	return true
}

func (l *lane) alive() bool { return l.cause() == nil }
