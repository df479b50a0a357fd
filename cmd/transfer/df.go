package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"transferd/internal/store"
	"transferd/internal/transfer"
	"transferd/internal/tree"
)

// spaceEvent is the space of a filesystem in --json. Sizes are bytes.
type spaceEvent struct {
	Event string `json:"event"` // "space"
	named
	Total      uint64 `json:"total"`
	Used       uint64 `json:"used"`
	Available  uint64 `json:"available"`
	Files      uint64 `json:"files"`
	FilesAvail uint64 `json:"files_available"`
	ReadOnly   bool   `json:"read_only"`
}

func newDfCommand(env *environ) *cobra.Command {
	var net netFlags
	cmd := &cobra.Command{
		Use:     "df [flags] TARGET...",
		Short:   "Show how full the filesystem of a target is",
		Long:    "Show size and free space of the filesystem that holds each target.\n\n" + exitCodeHelp,
		Example: "  transfer df host:results .",
		Args:    atLeast(1, "a target"),
	}
	net.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		c, err := newClient(env, cmd, &net, store.Options{})
		if err != nil {
			return err
		}
		defer func() { err = c.end(err) }()
		table := tabwriter.NewWriter(env.stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
		head := sync.OnceFunc(func() {
			// The last column has no tab behind it, and so is not aligned right.
			_, _ = fmt.Fprint(table, "Size\tUsed\tAvail\tUse%\t Target\n") // Flush tells
		})
		err = c.each(cmd.Context(), args, func(ctx context.Context, place transfer.Place) error {
			space, err := spaceOf(ctx, place)
			if err != nil {
				return err
			}
			if net.json {
				out := jsonLines{out: env.stdout}
				out.write(spaceEvent{
					Event: "space", named: nameOf(place.Label), Total: space.Total, Used: space.Total - space.Free,
					Available: space.Available, Files: space.Files, FilesAvail: space.FilesAvail, ReadOnly: space.ReadOnly,
				})
				return out.close()
			}
			head()
			used := space.Total - space.Free
			_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t %s\n", sizeText(int64(space.Total)), sizeText(int64(used)), //nolint:gosec // no disk has 8 EiB
				sizeText(int64(space.Available)), useText(used, space.Available), escape(place.Label)) //nolint:gosec // as above
			return nil
		})
		return errors.Join(err, table.Flush())
	}
	return cmd
}

func spaceOf(ctx context.Context, place transfer.Place) (tree.Space, error) {
	spacer, ok := place.Tree.(tree.Spacer)
	if !ok {
		return tree.Space{}, fmt.Errorf("%s: free space is not told here: %w", place.Label, errors.ErrUnsupported)
	}
	space, err := spacer.StatFS(ctx, place.Path)
	if errors.Is(err, errors.ErrUnsupported) {
		return tree.Space{}, fmt.Errorf("%s: this server does not tell its free space: %w", place.Label, err)
	}
	return space, at(place, err)
}

// useText is the used part of what an ordinary account can use, rounded up as
// df does.
func useText(used, available uint64) string {
	all := used + available
	if all == 0 {
		return "-"
	}
	percent := float64(used) / float64(all) * 100
	rounded := int(percent)
	if float64(rounded) < percent {
		rounded++
	}
	return fmt.Sprintf("%d%%", rounded)
}
