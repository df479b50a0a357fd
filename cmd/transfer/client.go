package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"transferd/config"
	"transferd/internal/store"
	"transferd/internal/transfer"
	"transferd/internal/transport"
	"transferd/internal/tree"
)

// A client is what one networked command works with: its settings, this
// machine's files, and the servers that its operands name. It is safe for
// concurrent use; close ends it.
type client struct {
	env   *environ
	flags *netFlags
	cfg   config.Client
	log   *slog.Logger

	host  *store.Store
	pool  *transport.Pool
	names names
}

// newClient makes the client of cmd. Nothing is connected yet.
func newClient(env *environ, cmd *cobra.Command, flags *netFlags, files store.Options) (*client, error) {
	cfg, err := flags.load(cmd)
	if err != nil {
		return nil, err
	}
	c := &client{env: env, flags: flags, cfg: cfg, log: flags.logger(env)}
	if !flags.quiet {
		for _, warning := range cfg.Warnings {
			_, _ = fmt.Fprintf(env.stderr, "transfer: warning: %s\n", escape(warning))
		}
	}
	files.StateDir, files.Now, files.Log = cfg.StateDir, env.now, c.log
	c.host = store.Host(files)
	options := c.transportOptions()
	if err := options.Check(); err != nil {
		return nil, err
	}
	c.pool = transport.New(options)
	return c, nil
}

func (c *client) transportOptions() transport.Options {
	o := transport.Options{
		Port:         c.cfg.Connection.Port,
		Identities:   c.cfg.Connection.Identity,
		SSHConfig:    c.cfg.SSHConfig,
		Jump:         c.cfg.Connection.Jump,
		SSHOptions:   c.flags.options,
		IPv4:         c.flags.ipv4,
		IPv6:         c.flags.ipv6,
		KnownHosts:   c.cfg.KnownHosts,
		HostKeyCheck: c.cfg.HostKeyCheck,
		Transport:    c.cfg.Connection.Transport,
		Timeout:      c.cfg.Timeout,
		Streams:      c.cfg.Streams,
		Bandwidth:    c.cfg.BWLimit,
		Compress:     c.cfg.Compress,
		Ciphers:      c.flags.ciphers,
		Log:          c.log,
	}
	if !c.flags.quiet {
		o.Stderr = c.env.stderr
	}
	for _, h := range c.cfg.Hosts {
		o.Hosts = append(o.Hosts, transport.Host{
			Name: h.Name, Address: h.Address, User: h.User, Port: h.Port, TCPPort: h.TCPPort, Jump: h.Jump,
			Transport: h.Transport, Identities: h.Identities, RemoteCommand: h.RemoteCommand,
		})
	}
	if c.cfg.StateDir != "" {
		o.Journals = store.OpenJournals(filepath.Join(c.cfg.StateDir, "journals"))
	}
	if !c.flags.batch && c.env.canAsk() {
		o.Prompt = personPrompter{c.env.prompts}
	}
	return o
}

// end ends the connections, gives up the disk, and returns the error of a
// command that came to err.
func (c *client) end(err error) error {
	return c.names.words(errors.Join(err, c.pool.Close(), c.host.Close()))
}

// place finds what an operand names, connecting to its server if need be.
func (c *client) place(ctx context.Context, operand string) (transfer.Place, error) {
	target, err := transport.ParseTarget(operand)
	if err != nil {
		return transfer.Place{}, err
	}
	return c.open(ctx, target)
}

// open is place for a target that was parsed already; it is not "-".
func (c *client) open(ctx context.Context, target transport.Target) (transfer.Place, error) {
	place := transfer.Place{Label: target.Raw}
	place.Slash, place.Contents = shapeOf(target)
	if target.Scheme == transport.SchemeStdio {
		return transfer.Place{}, usagef(`"-" is not possible here; ./- is the file of that name`)
	}
	if !target.Remote() {
		p, err := store.HostPath(c.env.path(target.Path))
		if err != nil {
			return transfer.Place{}, fmt.Errorf("%s: %w", target.Raw, err)
		}
		place.Tree, place.Path = c.host, p
		c.names.add(target, place)
		return place, nil
	}
	if target.User == "" {
		target.User = c.cfg.Connection.User
	}
	remote, err := c.pool.Connect(ctx, target)
	if err != nil {
		return transfer.Place{}, err
	}
	p, err := remote.Resolve(ctx, target.Path)
	if err != nil {
		return transfer.Place{}, fmt.Errorf("%s: %w", target.Raw, err)
	}
	place.Tree, place.Path, place.Host = remote.Tree(), p, remote.Label()
	c.names.add(target, place)
	return place, nil
}

// shapeOf tells what the last element of a target says beyond its name: that it
// was written with a slash behind it, and that it is "." or "..".
func shapeOf(target transport.Target) (slash, contents bool) {
	path := target.Path
	if !target.Remote() {
		path = filepath.ToSlash(path)
	}
	trimmed := strings.TrimRight(path, "/")
	last := trimmed[strings.LastIndexByte(trimmed, '/')+1:]
	return path != trimmed, last == "." || last == ".."
}

// each calls do for every operand in turn. Where some fail the others are done
// all the same, and each failure is told at once.
func (c *client) each(ctx context.Context, operands []string, do func(context.Context, transfer.Place) error) error {
	var failed []error
	for _, operand := range operands {
		place, err := c.place(ctx, operand)
		if err == nil {
			err = do(ctx, place)
		}
		if err == nil {
			continue
		}
		if ctx.Err() != nil || len(operands) == 1 {
			return err
		}
		c.tell(operand, c.names.words(err))
		failed = append(failed, err)
	}
	if len(failed) == 0 {
		return nil
	}
	return toldError{&partlyError{failed: len(failed), all: len(operands), errs: failed}}
}

// tell reports the failure of one operand among several.
func (c *client) tell(operand string, err error) {
	report(c.env.stderr, err)
	if c.flags.json {
		(&jsonLines{out: c.env.stdout}).write(failure(operand, err))
	}
}

// sink returns the tree of place for changing it.
func sink(place transfer.Place) (tree.Sink, error) {
	s, ok := place.Tree.(tree.Sink)
	if !ok {
		return nil, fmt.Errorf("%s: cannot be changed: %w", place.Label, errors.ErrUnsupported)
	}
	return s, nil
}

// at puts the operand's name before an error.
func at(place transfer.Place, err error) error { return under(place.Label, err) }

// under puts a name before an error, or before each of several that were
// joined.
func under(name string, err error) error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok && isJoin(err) {
		var errs []error
		for _, e := range joined.Unwrap() {
			errs = append(errs, under(name, e))
		}
		return errors.Join(errs...)
	}
	return fmt.Errorf("%s: %w", name, err)
}

// A personPrompter is a transport.Prompter that asks on the terminal.
type personPrompter struct{ prompts prompter }

// Passphrase implements transport.Prompter.
func (p personPrompter) Passphrase(ctx context.Context, prompt string) ([]byte, error) {
	return p.prompts.Secret(ctx, prompt)
}

// Answer implements transport.Prompter.
func (p personPrompter) Answer(ctx context.Context, prompt string, echo bool) (string, error) {
	if echo {
		return p.prompts.Line(ctx, prompt)
	}
	secret, err := p.prompts.Secret(ctx, prompt)
	return string(secret), err
}

// Confirm implements transport.Prompter.
func (p personPrompter) Confirm(ctx context.Context, question string) (string, error) {
	return p.prompts.Line(ctx, question)
}
