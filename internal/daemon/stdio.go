package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/user"
	"strings"
	"sync"

	"transferd/internal/session"
	"transferd/internal/store"
	"transferd/internal/transport/native"
	"transferd/internal/tree"
	"transferd/protocol"
)

// software is what the native server calls itself; no version, which is nobody's
// business before login.
const software = "transferd"

// ServeStdio serves one native session at rw with the rights of this process,
// not confined: what a client starts over any sshd. Further streams come to it
// through JoinStdio. It returns when the client has hung up or ctx ends.
func ServeStdio(ctx context.Context, rw io.ReadWriteCloser, stderr io.Writer) error {
	log := newLogger(stderr, slog.LevelWarn, "text")
	home, err := store.HostPath(".")
	if me, err := user.Current(); err == nil {
		home, _ = store.HostPath(me.HomeDir)
	}
	if err != nil {
		return err
	}
	host := store.Host(store.Options{Owners: true, Log: log})
	defer func() { _ = host.Close() }() // nothing of it is held open

	server := native.NewServer(native.ServerConfig{Software: software, Log: log, Handles: handlesOf()})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	joins := &joins{server: server, log: log}
	defer joins.close()
	guest := func(context.Context) (native.Guest, error) { //nolint:unparam // as ServeOptions wants it
		return native.Guest{
			User:    userName(),
			Tree:    session.New(host, session.Login{User: userName(), Permissions: session.All}),
			Home:    home,
			Resolve: func(_ context.Context, text string) (tree.Path, error) { return resolveHost(home, text) },
		}, nil
	}
	served := make(chan error, 1)
	go func() {
		served <- server.Serve(ctx, stdioStream(rw), native.ServeOptions{
			Guest: guest,
			Named: func(name [16]byte) { joins.listen(ctx, name) },
		})
	}()
	select {
	case err = <-served:
	case <-ctx.Done():
		// A read from a pipe cannot be interrupted, so only what runs is awaited.
		grace, stop := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
		defer stop()
		err = server.Shutdown(grace)
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("stdio: %w", err)
	}
	return nil
}

func stdioStream(rw io.ReadWriteCloser) *native.Stream {
	return &native.Stream{ReadWriteCloser: rw, Transport: "stdio", Binding: protocol.BindingStdio}
}

// resolveHost makes a path of what a person typed, as a shell would.
func resolveHost(home tree.Path, text string) (tree.Path, error) {
	if rest, ok := strings.CutPrefix(text, "~"); ok {
		name, rest, _ := strings.Cut(rest, "/")
		base, err := homeOf(name)
		if err != nil {
			return "", err
		}
		home, text = base, rest
	}
	if !strings.HasPrefix(text, "/") {
		text = "/" + home.String() + "/" + text
	}
	return store.HostPath(text)
}

// joins is the door by which further streams of a stdio session come in: other
// processes of the same account, at a socket that nobody else can reach.
type joins struct {
	server *native.Server
	log    *slog.Logger

	mu       sync.Mutex // guards what follows: a session may begin while the process ends
	listener net.Listener
	closed   bool
}

// listen opens the door of session name. Without it the session has one stream.
func (j *joins) listen(ctx context.Context, name [16]byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return
	}
	dir, err := joinDir()
	if err == nil {
		j.listener, err = new(net.ListenConfig).Listen(ctx, "unix", joinPath(dir, name))
	}
	if err != nil {
		j.listener = nil
		j.log.DebugContext(ctx, "no further streams", "err", err)
		return
	}
	go j.serve(ctx, j.listener)
}

func (j *joins) serve(ctx context.Context, listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return // closed
		}
		if err := checkPeer(conn); err != nil {
			j.log.WarnContext(ctx, "join refused", "err", err)
			_ = conn.Close()
			continue
		}
		go func() {
			nobody := func(context.Context) (native.Guest, error) {
				return native.Guest{}, &native.Refusal{Code: protocol.CodeBadState, Message: "this is for further streams alone"}
			}
			if err := j.server.Serve(ctx, stdioStream(conn), native.ServeOptions{Guest: nobody}); err != nil {
				j.log.DebugContext(ctx, "stream ended", "err", err)
			}
		}()
	}
}

func (j *joins) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	if j.listener != nil {
		_ = j.listener.Close() // it removes the socket
	}
}

// JoinStdio brings one more stream, at rw, to a process that runs ServeStdio for
// the same account. The first frame says which; until it comes, this process
// speaks for the other.
func JoinStdio(ctx context.Context, rw io.ReadWriteCloser) error {
	if _, err := io.WriteString(rw, protocol.Preface); err != nil { // the client may wait for it before it says more
		return fmt.Errorf("join: %w", err)
	}
	head, name, err := readJoin(rw)
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	conn, err := dialSession(ctx, name)
	if err != nil {
		refuseJoin(rw)
		return fmt.Errorf("join: %w", err)
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if _, err := conn.Write(head); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	if err := protocol.ReadPreface(conn, 0); err != nil { // the client has it
		return fmt.Errorf("join: %w", err)
	}
	go func() {
		_, _ = io.Copy(conn, rw)
		_ = conn.(*net.UnixConn).CloseWrite() //nolint:forcetypeassert // it was dialled as one
	}()
	if _, err := io.Copy(rw, conn); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("join: %w", err)
	}
	return nil
}

// dialSession connects to the process of that session.
func dialSession(ctx context.Context, name [16]byte) (net.Conn, error) {
	dir, err := joinDir()
	if err != nil {
		return nil, err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", joinPath(dir, name))
	if err != nil {
		return nil, fmt.Errorf("no such session: %w", err)
	}
	if err := checkPeer(conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// refuseJoin says what a server says of every join that it refuses. Why is for
// standard error.
func refuseJoin(w io.Writer) {
	text, err := protocol.Append(nil, 0, &protocol.Goodbye{Code: protocol.CodeJoin, Message: "not with this ticket"})
	if err == nil {
		_, _ = w.Write(text) // where it fails the client has gone
	}
}

// readJoin reads the preface and JOIN, and returns their bytes.
func readJoin(r io.Reader) (head []byte, session [16]byte, err error) {
	head = make([]byte, len(protocol.Preface)+protocol.HeaderSize)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, session, err
	}
	if string(head[:len(protocol.Preface)]) != protocol.Preface {
		return nil, session, errors.New("the client does not speak the protocol")
	}
	frames := protocol.NewReader(io.MultiReader(strings.NewReader(string(head[len(protocol.Preface):])), r), protocol.MaxHandshakeFrame)
	h, err := frames.Next()
	if err != nil {
		return nil, session, err
	}
	body, err := frames.Body(nil)
	if err != nil {
		return nil, session, err
	}
	m, err := protocol.Decode(h.Type, body)
	if err != nil {
		return nil, session, err
	}
	join, ok := m.(*protocol.Join)
	if !ok {
		return nil, session, fmt.Errorf("the client sent %v", h.Type)
	}
	return append(head, body...), join.Session, nil
}

// joinDir is where the sockets are: a directory that is this account's alone.
func joinDir() (string, error) {
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if dir != "" {
		dir += "/transferd"
	} else {
		dir = fmt.Sprintf("%s/transferd-%d", os.TempDir(), os.Getuid())
	}
	err := os.Mkdir(dir, 0o700) //nolint:gosec // where the account's own environment says
	if err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	return dir, checkOwn(dir)
}

func joinPath(dir string, session [16]byte) string { return fmt.Sprintf("%s/%x", dir, session) }
