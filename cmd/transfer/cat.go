package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"transferd/internal/store"
	"transferd/internal/transfer"
)

func newCatCommand(env *environ) *cobra.Command {
	var net netFlags
	cmd := &cobra.Command{
		Use:     "cat [flags] TARGET...",
		Short:   "Write files to stdout, one behind the other",
		Long:    "Write the contents of files to stdout, one behind the other; - is stdin.\n\n" + exitCodeHelp,
		Example: "  transfer cat host:log/today | grep error",
		Args:    atLeast(1, "a target"),
	}
	net.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if net.json {
			return usagef("cat writes the files themselves to stdout, so it has no --json")
		}
		c, err := newClient(env, cmd, &net, store.Options{})
		if err != nil {
			return err
		}
		defer func() { err = c.end(err) }()
		for _, operand := range args {
			if operand == "-" {
				if _, err := io.Copy(env.stdout, env.stdin); err != nil {
					return fmt.Errorf("copy stdin to stdout: %w", err)
				}
				continue
			}
			// The first failure ends it: what follows would stand in its place.
			place, err := c.place(cmd.Context(), operand)
			if err != nil {
				return err
			}
			if err := stream(cmd.Context(), env.stdout, place, transfer.Options{}); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}
