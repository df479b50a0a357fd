package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"transferd/internal/store"
	"transferd/internal/transfer"
	"transferd/internal/tree"
)

func newStatCommand(env *environ) *cobra.Command {
	var net netFlags
	var follow bool
	cmd := &cobra.Command{
		Use:   "stat [flags] TARGET...",
		Short: "Show what a name is: kind, size, mode, owner, times",
		Long: `Show kind, size, mode, owner and times of each target, and of a symlink where it
leads. A target that is not there gives exit code 5, so that scripts can ask.

` + exitCodeHelp,
		Example: "  transfer stat host:results/run1.tif\n  if transfer stat -q host:done >/dev/null; then echo done; fi",
		Args:    atLeast(1, "a target"),
	}
	net.add(cmd)
	cmd.Flags().BoolVarP(&follow, "dereference", "L", false, "what a symlink leads to, not the link")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		c, err := newClient(env, cmd, &net, store.Options{})
		if err != nil {
			return err
		}
		defer func() { err = c.end(err) }()
		return c.each(cmd.Context(), args, func(ctx context.Context, place transfer.Place) error {
			look := place.Tree.Lstat
			if follow || place.Slash {
				look = place.Tree.Stat
			}
			entry, err := look(ctx, place.Path)
			if err != nil {
				return at(place, err)
			}
			if net.json {
				out := jsonLines{out: env.stdout}
				out.write(eventOf(place.Label, entry))
				return out.close()
			}
			_, err = fmt.Fprint(env.stdout, statText(place.Label, entry))
			return err
		})
	}
	return cmd
}

// statText describes an entry in lines of "name: value".
func statText(label string, e tree.Entry) string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-6s %s\n", name+":", escape(fmt.Sprintf(format, args...)))
	}
	line("path", "%s", label)
	line("kind", "%s", e.Kind)
	if e.Kind == tree.KindSymlink {
		line("link", "%s", e.Link)
	}
	line("size", "%d (%s)", e.Size, sizeText(e.Size))
	line("mode", "%s (%s)", octal(e.Perm), modeText(e))
	owner, group := ownerText(e)
	line("owner", "%s:%s (%d:%d)", owner, group, e.UID, e.GID)
	for _, moment := range []struct {
		name string
		at   time.Time
	}{{"mtime", e.Mtime}, {"atime", e.Atime}, {"ctime", e.Ctime}} {
		if !moment.at.IsZero() {
			line(moment.name, "%s", moment.at.Local().Format("2006-01-02 15:04:05.999999999 -0700"))
		}
	}
	return b.String()
}
