package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"transferd/internal/store"
	"transferd/internal/transfer"
	"transferd/internal/transport"
	"transferd/internal/tree"
)

// partialAge is how long what a broken download left on this machine is kept.
const partialAge = 7 * 24 * time.Hour

func newCopyCommand(env *environ) *cobra.Command {
	var net netFlags
	var flags copyFlags
	cmd := &cobra.Command{
		Use:     "copy [flags] SRC... DST",
		Aliases: []string{"cp"},
		Short:   "Copy files and directories: upload, download, local, or between servers",
		Long: `Copy files and directories, to or from a server, between two servers by way of
this machine, or on this machine. What an earlier run of the same command left
unfinished is continued; what is there already, by size and time, is not sent.

A file to a directory, or to a name with / at its end, lands in it. A directory
becomes DST if that does not exist, and DST/name if it does or has / at its end;
with -T the copy is always exactly DST. Nothing unfinished ever has the final
name.

` + exitCodeHelp,
		Example: `  transfer copy -r results lab@microscope:runs/
  transfer copy lab@microscope:stack.tif .
  transfer copy -P 2022 -i key big.img ssh://10.0.3.7/backup/
  tar c . | transfer copy - host:backup.tar
  transfer copy --json -r data host:data`,
		Args: atLeast(2, "a source or the target"),
	}
	net.add(cmd)
	flags.add(cmd, &net)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := flags.finish(cmd, &net); err != nil {
			return err
		}
		c := copying{env: env, net: &net, flags: &flags}
		return c.run(cmd.Context(), cmd, args[:len(args)-1], args[len(args)-1])
	}
	return cmd
}

// copying is one run of transfer copy.
type copying struct {
	env    *environ
	net    *netFlags
	flags  *copyFlags
	client *client
}

func (c *copying) run(ctx context.Context, cmd *cobra.Command, operands []string, to string) (err error) {
	sources, target, err := c.parse(operands, to)
	if err != nil {
		return err
	}
	preserve, err := c.flags.preserved()
	if err != nil {
		return err
	}
	c.client, err = newClient(c.env, cmd, c.net, store.Options{Owners: preserve.Owner})
	if err != nil {
		return err
	}
	defer func() { err = c.client.end(err) }()
	options, err := c.flags.options(c.env, c.client.cfg)
	if err != nil {
		return err
	}
	if target.Remote() || slices.ContainsFunc(sources, transport.Target.Remote) {
		options.Bandwidth = 0 // it is kept on the wire, where it counts every byte
	}
	if !options.DryRun {
		if options.Machine, err = machineID(c.client.cfg.StateDir); err != nil {
			return &hintedError{err, "set TRANSFER_STATE_DIR, or state_dir in the configuration, to a directory that can be written"}
		}
		// What is too old is swept here, for no daemon runs on this machine. It
		// is no reason not to copy if that does not work.
		if _, err := c.client.host.Sweep(ctx, partialAge); err != nil && ctx.Err() == nil {
			c.client.log.WarnContext(ctx, "expired partials stay", "error", err)
		}
	}
	if target.Scheme == transport.SchemeStdio {
		return c.toStdout(ctx, sources, options)
	}
	show := newDisplay(c.env, displayOptions{
		kind: progressKind(c.client.cfg.Progress), json: c.net.json, quiet: c.net.quiet, verbose: c.net.verbose > 0,
		dryRun: options.DryRun, words: c.client.names.words,
	})
	options.Events = show.event
	show.begin(operands, to)
	sum, err := c.copy(ctx, sources, target, options)
	return show.close(sum, withCause(ctx, err))
}

// parse reads the operands and says what of them cannot be meant.
func (c *copying) parse(operands []string, to string) (sources []transport.Target, target transport.Target, err error) {
	for _, operand := range operands {
		source, err := transport.ParseTarget(operand)
		if err != nil {
			return nil, target, err
		}
		if source.Scheme == transport.SchemeStdio && len(operands) > 1 {
			return nil, target, usagef(`"-" (stdin) cannot be copied together with other sources`)
		}
		sources = append(sources, source)
	}
	if target, err = transport.ParseTarget(to); err != nil {
		return nil, target, err
	}
	if target.Scheme != transport.SchemeStdio {
		return sources, target, nil
	}
	switch {
	case c.net.json:
		return nil, target, &usageError{
			err:  errors.New(`--json and the target "-" both need stdout`),
			hint: "copy to a file, or leave out --json",
		}
	case c.flags.recursive:
		return nil, target, usagef(`-r makes directories, which the target "-" (stdout) cannot be`)
	case c.flags.dryRun:
		return nil, target, usagef(`-n has nothing to tell about the target "-" (stdout)`)
	case sources[0].Scheme == transport.SchemeStdio:
		return nil, target, usagef(`from "-" to "-" there is nothing to do`)
	}
	return sources, target, nil
}

// copy connects what the operands name and copies.
func (c *copying) copy(ctx context.Context, sources []transport.Target, target transport.Target, o transfer.Options) (transfer.Summary, error) {
	dst, err := c.client.open(ctx, target)
	if err != nil {
		return transfer.Summary{}, err
	}
	if sources[0].Scheme == transport.SchemeStdio {
		if o.DryRun {
			return transfer.Summary{}, usagef(`-n cannot tell what "-" (stdin) will bring`)
		}
		return transfer.WriteFrom(ctx, dst, c.env.stdin, o)
	}
	places := make([]transfer.Place, 0, len(sources))
	for _, source := range sources {
		place, err := c.client.open(ctx, source)
		if err != nil {
			return transfer.Summary{}, err
		}
		places = append(places, place)
	}
	return transfer.Copy(ctx, dst, places, o)
}

// toStdout writes the sources to stdout, one behind the other.
func (c *copying) toStdout(ctx context.Context, sources []transport.Target, o transfer.Options) error {
	for _, source := range sources {
		place, err := c.client.open(ctx, source)
		if err != nil {
			return err
		}
		if err := stream(ctx, c.env.stdout, place, o); err != nil {
			return err
		}
	}
	return nil
}

// stream writes the file at place to w, refusing a directory in words that help.
func stream(ctx context.Context, w io.Writer, place transfer.Place, o transfer.Options) error {
	_, err := transfer.ReadTo(ctx, w, place, o)
	if errors.Is(err, tree.ErrNotRegular) || errors.Is(err, tree.ErrIsDir) {
		if entry, statErr := place.Tree.Stat(ctx, place.Path); statErr == nil && entry.IsDir() {
			return &usageError{err: fmt.Errorf("%s is a directory", place.Label), hint: "name a file, or copy the directory with copy -r"}
		}
	}
	return err
}
