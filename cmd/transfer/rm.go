package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"transferd/internal/store"
	"transferd/internal/transfer"
	"transferd/internal/transport"
	"transferd/internal/tree"
)

func newRmCommand(env *environ) *cobra.Command {
	var net netFlags
	var recursive, force bool
	cmd := &cobra.Command{
		Use:   "rm [flags] TARGET...",
		Short: "Remove files, and with -r directories",
		Long: `Remove files and symlinks, and with -r directories with everything in them.
Symlinks are removed, never followed. A home or root directory is not removed.

` + exitCodeHelp,
		Example: "  transfer rm host:old.tif\n  transfer rm -rf host:results/old",
		Args:    atLeast(1, "a target"),
	}
	net.add(cmd)
	cmd.Flags().BoolVarP(&recursive, "recursive", "r", false, "remove directories with everything in them")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "what is not there is no error")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		for _, operand := range args {
			if err := checkRemovable(operand); err != nil {
				return err
			}
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
			if place.Path == tree.Root {
				return usagef("%s is a root directory, which is never removed", place.Label)
			}
			err = remove(ctx, target, place.Path, recursive)
			if force && errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return at(place, err)
		})
	}
	return cmd
}

// checkRemovable refuses operands that are hardly meant, before anything is
// connected or removed.
func checkRemovable(operand string) error {
	target, err := transport.ParseTarget(operand)
	if err != nil {
		return err
	}
	path := target.Path
	trimmed := strings.TrimRight(path, "/")
	_, contents := shapeOf(target)
	switch {
	case path == "":
		return &usageError{err: fmt.Errorf("%s is the home directory, which is not removed", operand), hint: "name what to remove in it"}
	case trimmed == "", trimmed == "~":
		return usagef("%s is a root or home directory, which is never removed", operand)
	case contents:
		return &usageError{err: fmt.Errorf(`%s ends in "." or "..", which is not removed`, operand), hint: "name the directory itself"}
	}
	return nil
}

// remove removes what p is, never what it leads to.
func remove(ctx context.Context, t tree.Sink, p tree.Path, recursive bool) error {
	entry, err := t.Lstat(ctx, p)
	if err != nil {
		return err
	}
	if !entry.IsDir() {
		return t.Remove(ctx, p)
	}
	if !recursive {
		return tree.ErrIsDir
	}
	return removeDir(ctx, t, p, entry)
}

// removeDir removes directory p, described by entry, with everything in it. It
// works on held directories where the tree has them, so that a directory that
// is exchanged for a symlink meanwhile leads nowhere. What cannot be removed
// does not keep the rest.
func removeDir(ctx context.Context, t tree.Sink, p tree.Path, entry tree.Entry) error {
	in, closeDir, err := hold(ctx, t, p, entry)
	if err != nil {
		return err
	}
	var failed []error
	for name, kind := range namesOf(ctx, in, &failed) {
		if ctx.Err() != nil {
			failed = append(failed, context.Cause(ctx))
			break
		}
		var err error
		if kind == tree.KindDir {
			var e tree.Entry
			if e, err = in.Lstat(ctx, tree.Path(name)); err == nil {
				err = removeDir(ctx, in, tree.Path(name), e)
			}
		} else {
			err = in.Remove(ctx, tree.Path(name))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = append(failed, err)
		}
	}
	failed = append(failed, closeDir())
	if err := errors.Join(failed...); err != nil {
		return err
	}
	return t.Remove(ctx, p)
}

// namesOf returns the kinds of the entries of directory t by name. They are read
// before the first is removed: some trees lose their place in a listing then.
func namesOf(ctx context.Context, t tree.Sink, failed *[]error) map[string]tree.Kind {
	names := map[string]tree.Kind{}
	for entry, err := range t.List(ctx, tree.Root) {
		if err != nil {
			*failed = append(*failed, err)
			break
		}
		names[entry.Name] = entry.Kind
	}
	return names
}

// hold returns the tree below directory p of t, and checks that it is still the
// one that entry describes.
func hold(ctx context.Context, t tree.Sink, p tree.Path, entry tree.Entry) (tree.Sink, func() error, error) {
	suber, ok := t.(tree.Suber)
	if !ok {
		return nil, nil, fmt.Errorf("remove a directory: %w", errors.ErrUnsupported)
	}
	sub, err := suber.Sub(ctx, p)
	if err != nil {
		return nil, nil, err
	}
	now, err := sub.Stat(ctx, tree.Root)
	if err == nil && (now.Inode != entry.Inode || now.Device != entry.Device) {
		err = fmt.Errorf("%s was changed while it was being removed", p)
	}
	if err != nil {
		return nil, nil, errors.Join(err, sub.Close())
	}
	return sub, sub.Close, nil
}
