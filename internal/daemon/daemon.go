// Package daemon is transferd: it builds the server from its configuration,
// runs it, reloads it and brings it to an orderly end. It reads no flag and
// ends no process; signals reach it through a channel.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"transferd/auth"
	"transferd/config"
	"transferd/internal/admission"
	"transferd/internal/sshd"
	"transferd/internal/tcpd"
	"transferd/internal/transport/native"
)

const (
	// shutdownGrace is how long clients have to come to an end after SIGTERM.
	shutdownGrace = 10 * time.Second

	// sweepEvery is how often expired partials are looked for.
	sweepEvery = time.Hour

	// sameSignal is how long after the signal that ends the daemon another one
	// is taken for the same: timeout(1), a shell and a terminal send it to the
	// process and to its group.
	sameSignal = time.Second
)

// Options are the settings of Run; all fields but Signals are needed.
type Options struct {
	// Load reads the configuration, at the start and at every reload.
	Load func() (config.Server, error)

	// Signals brings SIGHUP to reload, and anything else to end. While the end
	// is under way another one cuts it short, but for those that come at once.
	Signals <-chan os.Signal

	Stdout io.Writer // gets the lines that say that the daemon is ready
	Stderr io.Writer // gets the log
}

// A daemon is one running transferd.
type daemon struct {
	// config
	load   func() (config.Server, error)
	stdout io.Writer

	// state
	log      *slog.Logger
	level    *slog.LevelVar
	accounts *accounts
	ssh      *sshd.Server
	tcp      *tcpd.Server
	native   *native.Server // serves our own protocol for both
	tcpPort  atomic.Uint32  // that clients of any address can join at; 0: none
	idle     atomic.Int64   // limits.idle_timeout, ns
	maxAge   atomic.Int64   // partials.max_age, ns
	current  config.Server  // of the last good load; only Run's goroutine has it
}

// Run serves until ctx ends or a signal says so, then ends in good order and
// returns nil. An error that Load returned at the start is passed on as it is.
func Run(ctx context.Context, o Options) error {
	c, err := o.Load()
	if err != nil {
		return err
	}
	d := &daemon{load: o.Load, stdout: o.Stdout, level: new(slog.LevelVar), current: c}
	d.log = newLogger(o.Stderr, d.level, c.Log.Format)
	if err := d.level.UnmarshalText([]byte(c.Log.Level)); err != nil {
		return fmt.Errorf("log.level: %w", err)
	}
	d.warn(ctx, c)

	if err := makeStateDir(c.StateDir); err != nil {
		return err
	}
	if d.accounts, err = newAccounts(ctx, c, d.log); err != nil {
		return err
	}
	fingerprints, err := d.build(ctx, c)
	if err != nil {
		return err
	}
	l, err := d.listen(ctx, c)
	if err != nil {
		return err
	}
	return d.serve(ctx, l, fingerprints, o.Signals)
}

// build makes the servers, and returns the fingerprints of the host keys.
func (d *daemon) build(ctx context.Context, c config.Server) ([]string, error) {
	certificate, err := tcpd.NewCertificate()
	if err != nil {
		return nil, err
	}
	d.setTimes(c)
	handles := handlesOf() / 2 // for each of the two that serve files
	d.native = native.NewServer(native.ServerConfig{
		Software: software, Log: d.log, Handles: handles,
		TLSKey:      certificate.TLSKey(),
		TCPPort:     func() uint16 { return uint16(d.tcpPort.Load()) }, //nolint:gosec // it was one
		IdleTimeout: func() time.Duration { return time.Duration(d.idle.Load()) },
		Expiry:      func() time.Duration { return time.Duration(d.maxAge.Load()) },
	})
	visitors := admission.NewVisitors()
	server := sshd.Config{
		Accounts: d.accounts, Limits: limitsOf(c), Log: d.log, Handles: handles, Native: d.native, Visitors: visitors,
	}
	if err := addHostKeys(ctx, &server, c, d.log); err != nil {
		return nil, err
	}
	if d.ssh, err = sshd.New(server); err != nil {
		return nil, err
	}
	d.tcp, err = tcpd.New(tcpd.Config{
		HostKeys: server.HostKeys, Accounts: d.accounts, Limits: limitsOf(c), Log: d.log,
		Native: d.native, Certificate: certificate, Visitors: visitors,
	})
	if err != nil {
		return nil, err
	}
	var fingerprints []string
	for _, key := range server.HostKeys {
		fingerprints = append(fingerprints, auth.Fingerprint(key.PublicKey())+" ("+key.PublicKey().Type()+")")
	}
	return fingerprints, nil
}

// setTimes is for what the native server asks for each time.
func (d *daemon) setTimes(c config.Server) {
	d.idle.Store(int64(c.Limits.IdleTimeout))
	d.maxAge.Store(int64(c.Partials.MaxAge))
}

// serve returns when the daemon has come to its end.
func (d *daemon) serve(ctx context.Context, on listeners, fingerprints []string, signals <-chan os.Signal) error {
	running, stop := context.WithCancel(ctx)
	defer stop()
	group, running := errgroup.WithContext(running)
	for _, l := range on.ssh {
		group.Go(func() error { return d.ssh.Serve(running, l) })
	}
	for _, l := range on.tcp {
		group.Go(func() error { return d.tcp.Serve(running, l) })
	}
	group.Go(func() error { d.sweep(running); return nil })
	group.Go(func() error { d.tidy(running); return nil })
	d.ready(ctx, on, fingerprints)
	d.obey(running, signals)
	d.shutdown(ctx, signals)
	stop()
	err := errors.Join(group.Wait(), d.accounts.close())
	d.log.InfoContext(ctx, "ended")
	return err
}

// obey acts on signals until one of them, or ctx, ends the daemon.
func (d *daemon) obey(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case sig := <-signals:
			if sig == syscall.SIGHUP {
				d.reload(ctx)
				continue
			}
			d.log.InfoContext(ctx, "ending", "signal", sig.String())
			return
		}
	}
}

// shutdown ends the servers, in shutdownGrace or when another signal comes.
func (d *daemon) shutdown(ctx context.Context, signals <-chan os.Signal) {
	// ctx may be what ended the daemon; clients get their time all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	ended := make(chan struct{})
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		if impatient(signals, ended) {
			cancel()
		}
	}()
	var group errgroup.Group
	for _, end := range []func(context.Context) error{d.native.Shutdown, d.ssh.Shutdown, d.tcp.Shutdown} {
		group.Go(func() error { return end(ctx) })
	}
	if err := group.Wait(); err != nil {
		// The clients were slow, not we wrong: what they sent is kept.
		d.log.WarnContext(ctx, "clients were cut off", "err", err)
	}
	close(ended)
	<-watching
}

// impatient waits for a signal that means hurry, or until ended is closed, and
// reports whether the signal came.
func impatient(signals <-chan os.Signal, ended <-chan struct{}) bool {
	first := time.Now()
	for {
		select {
		case <-ended:
			return false
		case sig := <-signals:
			if sig != syscall.SIGHUP && time.Since(first) >= sameSignal {
				return true
			}
		}
	}
}

// reload takes over what can change while running. A wrong configuration
// changes nothing.
func (d *daemon) reload(ctx context.Context) {
	c, err := d.load()
	if err == nil {
		err = d.accounts.set(ctx, c)
	}
	if err != nil {
		d.log.ErrorContext(ctx, "reload: the configuration is wrong, the old one stays", "err", err)
		return
	}
	d.warn(ctx, c)
	if err := d.level.UnmarshalText([]byte(c.Log.Level)); err != nil {
		d.log.ErrorContext(ctx, "reload: the log level stays", "err", err)
	}
	d.setTimes(c)
	d.ssh.SetLimits(limitsOf(c))
	d.tcp.SetLimits(limitsOf(c))
	if fixed := changedFixed(d.current, c); len(fixed) > 0 {
		d.log.WarnContext(ctx, "reload: these settings change with a restart only", "keys", fixed)
	}
	d.current = c
	d.log.InfoContext(ctx, "reloaded", "users", len(c.Users))
}

// sweep removes expired partials now and every sweepEvery, until ctx ends.
func (d *daemon) sweep(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		d.accounts.sweep(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// warn logs what is legal and yet hardly meant.
func (d *daemon) warn(ctx context.Context, c config.Server) {
	for _, warning := range c.Warnings {
		d.log.WarnContext(ctx, "configuration", "warning", warning)
	}
}

// handlesOf is how many files and directories clients may have open: half of
// what the system lets this process open, at two each. The other half is for
// connections, or nobody could log in any more.
func handlesOf() int {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return 0
	}
	return int(min(files.Cur, 1<<20) / 4)
}

func limitsOf(c config.Server) admission.Limits {
	return admission.Limits{
		Connections:      c.Limits.Connections,
		PerSource:        c.Limits.PerSource,
		Handshakes:       c.Limits.Handshakes,
		HandshakeTimeout: c.Limits.HandshakeTimeout,
		IdleTimeout:      c.Limits.IdleTimeout,
	}
}
