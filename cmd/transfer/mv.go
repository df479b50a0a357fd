package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"transferd/internal/store"
	"transferd/internal/transfer"
	"transferd/internal/transport"
	"transferd/internal/tree"
)

func newMvCommand(env *environ) *cobra.Command {
	var net netFlags
	m := mover{net: &net}
	cmd := &cobra.Command{
		Use:   "mv [flags] SRC... DST",
		Short: "Rename files and directories on one server",
		Long: `Rename files and directories within one server, or within this machine. To a
directory that exists they move into it, unless -T is given.

` + exitCodeHelp,
		Example: "  transfer mv host:run1.tif host:done/\n  transfer mv -n host:a host:b",
		Args:    atLeast(2, "a source or the target"),
	}
	net.add(cmd)
	cmd.Flags().BoolVarP(&m.noReplace, "no-clobber", "n", false, "do not replace what is there: fail")
	cmd.Flags().BoolVarP(&m.exact, "no-target-directory", "T", false, "DST is the new name itself, also when it is a directory")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		c, err := newClient(env, cmd, &net, store.Options{})
		if err != nil {
			return err
		}
		defer func() { err = c.end(err) }()
		return m.run(cmd.Context(), c, args[:len(args)-1], args[len(args)-1])
	}
	return cmd
}

// A mover is one run of transfer mv.
type mover struct {
	net       *netFlags
	noReplace bool
	exact     bool
}

func (m *mover) run(ctx context.Context, c *client, operands []string, to string) error {
	target, err := transport.ParseTarget(to)
	if err != nil {
		return err
	}
	for _, operand := range operands {
		source, err := transport.ParseTarget(operand)
		if err != nil {
			return err
		}
		if source.Remote() != target.Remote() {
			return apart(operand, to) // said before anything is connected
		}
	}
	dst, err := c.open(ctx, target)
	if err != nil {
		return err
	}
	entry, err := dst.Tree.Stat(ctx, dst.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return at(dst, err)
	}
	into := err == nil && entry.IsDir() && !m.exact
	switch {
	case len(operands) > 1 && m.exact:
		return usagef("-T takes exactly one source")
	case !into && (len(operands) > 1 || dst.Slash && err == nil):
		return at(dst, tree.ErrNotDir)
	}
	return c.each(ctx, operands, func(ctx context.Context, src transfer.Place) error {
		if src.Host != dst.Host || src.Tree != dst.Tree {
			return apart(src.Label, dst.Label)
		}
		if src.Path == tree.Root || src.Contents {
			return usagef("%s cannot be moved: name the directory itself", src.Label)
		}
		target, err := sink(dst)
		if err != nil {
			return err
		}
		path, to, how := dst.Path, dst.Label, tree.RenameReplace
		if into {
			path = path.Join(src.Path.Base())
			to = inside(to, src.Path.Base())
		}
		if m.noReplace {
			how = tree.RenameNoReplace
		}
		err = hinted(target.Rename(ctx, src.Path, path, how), fs.ErrExist, "without -n what is there is replaced")
		return under(src.Label+" to "+to, err)
	})
}

// apart refuses to move between machines: a broken move would have to undo
// half of itself.
func apart(from, to string) error {
	return &usageError{
		err:  fmt.Errorf("%s and %s are on different machines", from, to),
		hint: fmt.Sprintf("copy it with 'transfer copy -r %s %s', then remove it with 'transfer rm -r %s'", from, to, from),
	}
}
