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
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"transferd/config"
	"transferd/internal/sshd"
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
	server   *sshd.Server
	current  config.Server // of the last good load; only Run's goroutine has it
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
	server := sshd.Config{Limits: limitsOf(c), Log: d.log, Handles: handlesOf()}
	fingerprints, err := addHostKeys(ctx, &server, c, d.log)
	if err != nil {
		return err
	}
	if d.accounts, err = newAccounts(ctx, c, d.log); err != nil {
		return err
	}
	server.Accounts = d.accounts
	if d.server, err = sshd.New(server); err != nil {
		return err
	}
	listeners, err := listen(ctx, c.SSH.Listen)
	if err != nil {
		return err
	}
	return d.serve(ctx, listeners, fingerprints, o.Signals)
}

// serve returns when the daemon has come to its end.
func (d *daemon) serve(ctx context.Context, listeners []net.Listener, fingerprints []string, signals <-chan os.Signal) error {
	running, stop := context.WithCancel(ctx)
	defer stop()
	group, running := errgroup.WithContext(running)
	for _, l := range listeners {
		group.Go(func() error { return d.server.Serve(running, l) })
	}
	group.Go(func() error { d.sweep(running); return nil })
	d.ready(ctx, listeners, fingerprints)
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

// shutdown ends the server, in shutdownGrace or when another signal comes.
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
	if err := d.server.Shutdown(ctx); err != nil {
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
	d.server.SetLimits(limitsOf(c))
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

func limitsOf(c config.Server) sshd.Limits {
	return sshd.Limits{
		Connections:      c.Limits.Connections,
		PerSource:        c.Limits.PerSource,
		Handshakes:       c.Limits.Handshakes,
		HandshakeTimeout: c.Limits.HandshakeTimeout,
		IdleTimeout:      c.Limits.IdleTimeout,
	}
}
