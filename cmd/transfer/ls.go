package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"transferd/internal/store"
	"transferd/internal/transfer"
	"transferd/internal/tree"
)

func newLsCommand(env *environ) *cobra.Command {
	var net netFlags
	l := lister{env: env, net: &net}
	cmd := &cobra.Command{
		Use:   "ls [flags] TARGET...",
		Short: "List directories",
		Long: `List the names in directories, sorted; of a file its own. Hidden names and
unfinished copies are left out unless -a is given.

` + exitCodeHelp,
		Example: "  transfer ls -l host:results\n  transfer ls --json -R host:results",
		Args:    atLeast(1, "a target"),
	}
	net.add(cmd)
	f := cmd.Flags()
	f.BoolVarP(&l.long, "long", "l", false, "with mode, owner, size and time")
	f.BoolVarP(&l.all, "all", "a", false, "hidden names and unfinished copies as well")
	f.BoolVarP(&l.recursive, "recursive", "R", false, "directories in directories as well")
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return l.run(cmd.Context(), cmd, args) }
	return cmd
}

// A lister is one run of transfer ls.
type lister struct {
	env       *environ
	net       *netFlags
	long      bool
	all       bool
	recursive bool

	out    *bufio.Writer
	json   *jsonLines
	escape bool // stdout is a terminal
	heads  bool // directories are named above their entries
	begun  bool
}

func (l *lister) run(ctx context.Context, cmd *cobra.Command, args []string) (err error) {
	c, err := newClient(l.env, cmd, l.net, store.Options{})
	if err != nil {
		return err
	}
	defer func() { err = c.end(err) }()
	l.out = bufio.NewWriter(l.env.stdout)
	l.escape = l.env.isTerminal(l.env.stdout)
	l.heads = len(args) > 1 || l.recursive
	if l.net.json {
		l.json = &jsonLines{out: l.out}
	}
	err = c.each(ctx, args, func(ctx context.Context, place transfer.Place) error {
		err := l.list(ctx, place)
		return errors.Join(err, l.out.Flush())
	})
	return err
}

// list shows what place is or holds.
func (l *lister) list(ctx context.Context, place transfer.Place) error {
	look := place.Tree.Lstat
	if place.Slash {
		look = place.Tree.Stat // "link/" is what the link leads to
	}
	entry, err := look(ctx, place.Path)
	if err != nil {
		return at(place, err)
	}
	if entry.Kind == tree.KindSymlink && !l.long {
		// As ls does: what a symlink leads to is listed, unless -l asks about
		// the link itself.
		if followed, err := place.Tree.Stat(ctx, place.Path); err == nil && followed.IsDir() {
			entry = followed
		}
	}
	if !entry.IsDir() {
		l.show([]tree.Entry{entry}, func(tree.Entry) string { return place.Label })
		return nil
	}
	return l.directory(ctx, place, place.Path, place.Label)
}

// directory shows the entries of the directory at p, which people know as label.
func (l *lister) directory(ctx context.Context, place transfer.Place, p tree.Path, label string) error {
	var entries []tree.Entry
	for entry, err := range place.Tree.List(ctx, p) {
		if err != nil {
			return under(label, err)
		}
		if !l.all && (strings.HasPrefix(entry.Name, ".") || tree.IsPartialName(entry.Name)) {
			continue
		}
		entries = append(entries, entry)
	}
	slices.SortFunc(entries, func(a, b tree.Entry) int { return cmp.Compare(a.Name, b.Name) })
	if l.heads && l.json == nil {
		if l.begun {
			l.line("")
		}
		l.line(l.name(label) + ":")
	}
	l.begun = true
	prefix := ""
	if l.heads && l.json != nil {
		prefix = inside(label, "")
	}
	l.show(entries, func(e tree.Entry) string { return prefix + e.Name })
	if !l.recursive {
		return nil
	}
	var failed []error
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		if err := l.directory(ctx, place, p.Join(entry.Name), inside(label, entry.Name)); err != nil {
			if ctx.Err() != nil {
				return err
			}
			failed = append(failed, err) // the others can still be listed
		}
	}
	return errors.Join(failed...)
}

// inside is how people know name in the directory they know as label.
func inside(label, name string) string {
	if strings.HasSuffix(label, "/") || strings.HasSuffix(label, ":") {
		return label + name
	}
	return label + "/" + name
}

// show writes entries, each under the name that nameOf gives it.
func (l *lister) show(entries []tree.Entry, nameOf func(tree.Entry) string) {
	if l.json != nil {
		for _, e := range entries {
			l.json.write(eventOf(nameOf(e), e))
		}
		return
	}
	if !l.long {
		for _, e := range entries {
			l.line(l.name(nameOf(e)))
		}
		return
	}
	var owners, groups, sizes int
	for _, e := range entries {
		owner, group := ownerText(e)
		owners, groups = max(owners, len(owner)), max(groups, len(group))
		sizes = max(sizes, len(fmt.Sprint(e.Size)))
	}
	for _, e := range entries {
		owner, group := ownerText(e)
		line := fmt.Sprintf("%s %-*s %-*s %*d %s %s", modeText(e), owners, escape(owner), groups, escape(group),
			sizes, e.Size, e.Mtime.Local().Format("2006-01-02 15:04:05"), l.name(nameOf(e)))
		if e.Kind == tree.KindSymlink {
			line += " -> " + l.name(e.Link)
		}
		l.line(line)
	}
}

// name writes a name as stdout can take it: safely on a terminal, as it is for
// a program.
func (l *lister) name(name string) string {
	if l.escape {
		return escape(name)
	}
	return name
}

// line puts a line into the buffer, whose Flush tells of errors.
func (l *lister) line(text string) {
	_, _ = io.WriteString(l.out, text+"\n")
}
