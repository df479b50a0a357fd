package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"transferd/config"
	"transferd/internal/daemon"
)

// An environ is what a command gets of the process it runs in.
type environ struct {
	stdin          *os.File
	stdout, stderr *os.File
	signals        <-chan os.Signal
}

// The exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2 // wrong usage or configuration
)

const exitCodeHelp = `Exit codes:
  0  ended as asked
  1  something failed, such as a port that is in use
  2  wrong usage or configuration`

// A usageError is a command line that makes no sense; hint is the next step.
type usageError struct {
	err  error
	hint string
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// run executes the command line args and returns the exit code. It reports the
// error to the person itself.
func run(ctx context.Context, env environ, args []string) int {
	root := newRootCommand(env)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	report(env, err)
	return exitCode(err)
}

// exitCode is the one place that maps errors to exit codes.
func exitCode(err error) int {
	var (
		usage  *usageError
		faults config.Faults
	)
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage), errors.As(err, &faults), errors.Is(err, daemon.ErrSFTPUsage):
		return exitUsage
	}
	return exitFailed
}

// report tells the person what went wrong, and what to do if that is known.
func report(env environ, err error) {
	if err == nil {
		return
	}
	var (
		usage  *usageError
		faults config.Faults
	)
	// What stderr does not take nobody can be told.
	for line := range strings.Lines(err.Error() + "\n") {
		_, _ = fmt.Fprintf(env.stderr, "transferd: %s", line)
	}
	switch {
	case errors.As(err, &usage):
		_, _ = fmt.Fprintf(env.stderr, "transferd: %s\n", usage.hint)
	case errors.As(err, &faults):
		_, _ = fmt.Fprintln(env.stderr, "transferd: nothing was started; 'transferd check' looks at the configuration again")
	}
}

// newRootCommand returns the whole command tree. Without a command it serves.
func newRootCommand(env environ) *cobra.Command {
	var flags serveFlags
	root := &cobra.Command{
		Use:   "transferd [serve]",
		Short: "Serve files over SSH and TCP, each user in a directory of his own",
		Long: `transferd is a file server over SSH, for scp, sftp, rclone, sshfs and transfer, and
over TCP with transfer's own protocol. Each user logs in with a key and sees one
directory and nothing else.

The quick way, for one user, who is the account that starts it:
  transferd --root DIR --authorized-keys FILE

For more users write a configuration file with 'transferd init'.

` + exitCodeHelp,
		Args:              noCommand,
		RunE:              func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), env, flags) },
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},

		SuggestionsMinimumDistance: 2,
	}
	root.SetIn(env.stdin)
	root.SetOut(env.stdout)
	root.SetErr(env.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{err, fmt.Sprintf("'%s --help' lists its flags", cmd.CommandPath())}
	})
	flags.add(root)
	root.AddCommand(
		newServeCommand(env),
		newInitCommand(env),
		newCheckCommand(env),
		newSFTPServerCommand(env),
		newStdioCommand(env),
		newVersionCommand(env),
		newCompletionCommand(env),
	)
	return root
}

// noCommand refuses operands of the root command: they are misspelt commands.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := "'transferd --help' lists the commands"
	if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
		hint = fmt.Sprintf("did you mean 'transferd %s'?", like[0])
	}
	return &usageError{fmt.Errorf("unknown command %q", args[0]), hint}
}

// noArgs refuses operands.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return &usageError{
		fmt.Errorf("%s takes no operand, but there is %q", cmd.CommandPath(), args[0]),
		fmt.Sprintf("'%s --help' shows how it is used", cmd.CommandPath()),
	}
}
