package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// run executes the command line args and returns the exit code. It reports the
// error to the person itself.
func run(ctx context.Context, env *environ, args []string) int {
	env = env.withScreen()
	root := newRootCommand(env)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil || errors.As(err, new(toldError)) {
		return exitCode(err)
	}
	err = withCause(ctx, err)
	report(env.stderr, err)
	if wantsJSON(cmd) {
		(&jsonLines{out: env.stdout}).write(failure("", err))
	}
	return exitCode(err)
}

// wantsJSON reports whether cmd was called with --json.
func wantsJSON(cmd *cobra.Command) bool {
	f := cmd.Flags().Lookup("json")
	return f != nil && f.Value.String() == "true"
}

// newRootCommand returns the whole command tree.
func newRootCommand(env *environ) *cobra.Command {
	root := &cobra.Command{
		Use:   "transfer",
		Short: "Copy files between machines, resumably",
		Long: `transfer copies files to and from any machine that runs transferd or an SSH
server, and carries on where it stopped when the same command is run again.

A target is [user@]host:path, ssh://[user@]host[:port]/path, sftp://… (SFTP
only), tcp://… (a transferd's own port, 2023), a local path, or - for stdin or
stdout. ./a:b is the local file "a:b".

` + exitCodeHelp,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				unknown := &usageError{err: fmt.Errorf("unknown command %q", args[0]), hint: "'transfer --help' lists the commands"}
				if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
					unknown.hint = "did you mean " + strings.Join(like, " or ") + "?"
				}
				return unknown
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(env.stderr)
			if err := cmd.Usage(); err != nil {
				return fmt.Errorf("show the usage: %w", err)
			}
			return usagef("a command is missing")
		},
		Version:                    version(),
		SuggestionsMinimumDistance: 2,
		SilenceErrors:              true,
		SilenceUsage:               true,
		CompletionOptions:          cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetIn(env.stdin)
	root.SetOut(env.stdout)
	root.SetErr(env.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		// What scp has and we have not says itself what to do instead.
		if instead := new(insteadError); errors.As(err, &instead) {
			return usagef("%w", instead)
		}
		return &usageError{err: err, hint: fmt.Sprintf("'%s --help' lists its flags", cmd.CommandPath())}
	})
	root.AddCommand(
		newCopyCommand(env),
		newLsCommand(env),
		newStatCommand(env),
		newCatCommand(env),
		newMkdirCommand(env),
		newRmCommand(env),
		newMvCommand(env),
		newDfCommand(env),
		newSumCommand(env),
		newKeygenCommand(env),
		newConfigCommand(env),
		newCompletionCommand(env),
		newVersionCommand(env),
	)
	return root
}
