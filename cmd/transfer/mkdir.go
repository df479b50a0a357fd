package main

import (
	"context"
	"errors"
	"io/fs"
	"strconv"

	"github.com/spf13/cobra"

	"transferd/internal/store"
	"transferd/internal/transfer"
	"transferd/internal/tree"
)

func newMkdirCommand(env *environ) *cobra.Command {
	var net netFlags
	var parents bool
	var mode string
	cmd := &cobra.Command{
		Use:     "mkdir [flags] TARGET...",
		Short:   "Make directories",
		Long:    "Make directories. With -p those above are made too, and one that is there is no error.\n\n" + exitCodeHelp,
		Example: "  transfer mkdir -p host:results/2026/run1",
		Args:    atLeast(1, "a target"),
	}
	net.add(cmd)
	cmd.Flags().BoolVarP(&parents, "parents", "p", false, "make those above as well; no error if it is there")
	cmd.Flags().StringVarP(&mode, "mode", "m", "", "permissions in `OCTAL`, such as 0750")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		perm := 0o777 &^ env.umask
		if mode != "" {
			bits, err := strconv.ParseUint(mode, 8, 32)
			if err != nil || tree.Perm(bits)&^0o777 != 0 {
				return usagef("-m takes octal permissions such as 0750, not %q", mode)
			}
			perm = tree.Perm(bits)
		}
		c, err := newClient(env, cmd, &net, store.Options{})
		if err != nil {
			return err
		}
		defer func() { err = c.end(err) }()
		return c.each(cmd.Context(), args, func(ctx context.Context, place transfer.Place) error {
			target, err := sink(place)
			if err != nil {
				return err
			}
			if parents {
				return at(place, mkdirAll(ctx, target, place.Path, perm))
			}
			err = hinted(target.Mkdir(ctx, place.Path, perm), fs.ErrExist, "with -p a directory that exists is no error")
			return at(place, hinted(err, fs.ErrNotExist, "-p makes the directories above it as well"))
		})
	}
	return cmd
}

// mkdirAll makes directory p and those above it that are missing. As with
// mkdir -p, perm is for p alone: those above must let more names be made.
func mkdirAll(ctx context.Context, t tree.Sink, p tree.Path, perm tree.Perm) error {
	entry, err := t.Stat(ctx, p)
	switch {
	case err == nil && entry.IsDir():
		return nil
	case err == nil:
		return fs.ErrExist
	case !errors.Is(err, fs.ErrNotExist) || p == tree.Root:
		return err
	}
	if err := mkdirAll(ctx, t, p.Parent(), perm|0o700); err != nil {
		return err
	}
	err = t.Mkdir(ctx, p, perm)
	if errors.Is(err, fs.ErrExist) {
		// Somebody else made it meanwhile, which is as good if it is a directory.
		if entry, statErr := t.Stat(ctx, p); statErr == nil && entry.IsDir() {
			return nil
		}
	}
	return err
}
