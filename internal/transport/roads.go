package transport

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"transferd/internal/transport/native"
	"transferd/internal/transport/sftp"
	"transferd/protocol"
)

// A road is a way to our protocol on an SSH connection.
type road struct {
	name      string // for people
	transport string // as native.Stream has it
	binding   protocol.Binding
	first     request // begins a session
	join      request // joins it
}

// roads are those on an SSH connection, the best first.
func (v *server) roads() []road {
	subsystem := nativeSubsystem()
	return []road{
		{"the subsystem " + protocol.Subsystem, "ssh", protocol.BindingSSH, subsystem, subsystem},
		{
			"the command " + v.s.command, "stdio", protocol.BindingStdio,
			run(v.s.command + " stdio"), run(v.s.command + " stdio --join"),
		},
	}
}

// connectFiles connects by the way that the settings want; auto takes the best
// that the server offers, and it stays with that when the connection is lost
// later.
func (v *server) connectFiles(ctx context.Context) (files, error) {
	switch v.s.way {
	case wayTCP:
		client, err := native.NewClient(ctx, v.nativeOptions(v.controlTCP))
		if err != nil {
			return nil, v.nativeError(ctx, err)
		}
		v.chosen(ctx, "tcp", "it was asked for")
		return client, nil
	case wayAuto, waySSH:
		client, reasons, err := v.connectNative(ctx)
		switch {
		case err != nil:
			return nil, err
		case client != nil:
			return client, nil
		case v.s.way == waySSH:
			return nil, &problem{
				kind: ErrConnect, text: fmt.Sprintf("connect to %s: it does not speak our protocol (%s)", v.s.label(), strings.Join(reasons, "; ")),
				hint: "leave out --transport=ssh to copy over SFTP, or install transferd there; remote_command under hosts: says where it is",
			}
		}
		v.chosen(ctx, "sftp", strings.Join(reasons, "; "))
	case waySFTP:
	}
	return sftp.NewClient(ctx, v.open, sftp.ClientOptions{
		Journals: v.o.Journals,
		Lanes:    v.o.Streams,
		User:     v.s.label(),
		Log:      v.log,
	})
}

// connectNative tries every road to our protocol. Where there is none it says
// why not.
func (v *server) connectNative(ctx context.Context) (files, []string, error) {
	var reasons []string
	for _, r := range v.roads() {
		try := &attempt{server: v, road: r}
		client, err := native.NewClient(ctx, v.nativeOptions(try.control))
		if err == nil {
			v.chosen(ctx, try.road.transport, "the server has "+r.name)
			return client, nil, nil
		}
		if !try.passes(ctx, err) {
			return nil, nil, v.nativeError(ctx, err)
		}
		v.log.DebugContext(ctx, "no native protocol this way", "server", v.s.label(), "way", r.name, "reason", err)
		if errors.Is(err, native.ErrNotNative) {
			err = errors.New(r.name + " does not answer")
		}
		reasons = append(reasons, err.Error())
	}
	return nil, reasons, nil
}

// chosen tells, for -v, what carries the files, and makes a connection that is
// lost from now on something to wait for.
func (v *server) chosen(ctx context.Context, transport, reason string) {
	v.log.InfoContext(ctx, "transport", "server", v.s.label(), "name", transport, "reason", escape(reason))
	v.dialing <- struct{}{}
	v.served = v.served || transport != "sftp"
	v.unlock()
}

func (v *server) nativeOptions(control func(context.Context) (*native.Stream, native.Prover, error)) native.ClientOptions {
	compress, _ := compression(v.o.Compress) // Options.Check has looked
	o := native.ClientOptions{
		Control:  control,
		Join:     v.join,
		Streams:  v.o.Streams,
		Compress: compress,
		Patience: v.patience(),
		Label:    v.s.label(),
		Log:      v.log,
	}
	if v.s.way == wayAuto && len(v.s.jump) == 0 {
		o.Data = v.joinData
	}
	return o
}

// startWithin bounds how long a server may take to start something on a
// channel while there is another road: some never answer what they do not know.
const startWithin = protocol.StdioAfter * time.Second

// patience is startWithin, or more where nothing else can be tried: a machine
// that is busy is slow to start programs.
func (v *server) patience() time.Duration {
	if v.s.way == waySSH {
		return max(startWithin, v.s.timeout)
	}
	return startWithin
}

// An attempt is a road that is tried, and then kept.
type attempt struct {
	server  *server
	road    road
	reached bool // the server was asked for it
}

// control opens a control stream; see native.ClientOptions.
func (a *attempt) control(ctx context.Context) (*native.Stream, native.Prover, error) {
	v := a.server
	if err := v.lock(ctx); err != nil {
		return nil, nil, err
	}
	defer v.unlock()
	l, err := v.link(ctx)
	if err != nil {
		return nil, nil, err
	}
	a.reached = true
	st, err := v.openStream(ctx, l, a.road, a.road.first)
	if err != nil {
		return nil, nil, err
	}
	v.session = session{link: l, road: a.road}
	return st, nil, nil
}

// passes reports whether err, which ended the attempt, leaves it to the next
// road: the server has this one not, or something else answers on it.
func (a *attempt) passes(ctx context.Context, err error) bool {
	if ctx.Err() != nil || !a.reached {
		return false
	}
	var said *native.PeerError
	if errors.As(err, &said) && (said.Code == protocol.CodeShutdown || said.Code == protocol.CodeLimit) {
		return false // it would say the same to SFTP
	}
	return true
}

// link returns the connection for a session: it has one, for the joins of SSH
// are bound to it. The lock is held.
func (v *server) link(ctx context.Context) (*link, error) {
	if v.closed {
		return nil, v.closedError()
	}
	v.bury()
	if len(v.links) == 0 {
		l, err := v.dial(ctx)
		if err != nil {
			return nil, v.again(err)
		}
		v.links = append(v.links, l)
	}
	return v.links[0], nil
}

// openStream opens a channel of l for our protocol.
func (v *server) openStream(ctx context.Context, l *link, r road, what request) (*native.Stream, error) {
	timed, cancel := context.WithTimeout(ctx, v.patience())
	defer cancel()
	opened, err := l.openLane(timed, what)
	if err != nil {
		return nil, err
	}
	opened.trial.Store(true)
	opened.patience.Store(time.AfterFunc(v.patience(), func() { _ = opened.Close() })) // the reader tells
	st := &native.Stream{
		ReadWriteCloser: opened,
		Transport:       r.transport,
		Binding:         r.binding,
		Remote:          addrPort(l.client.RemoteAddr()),
		Opened:          func() { opened.trial.Store(false) },
	}
	if r.binding == protocol.BindingSSH {
		st.Bound = l.client.SessionID()
	}
	return st, nil
}
