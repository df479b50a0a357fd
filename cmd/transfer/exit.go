package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"transferd/internal/tree"
)

// The exit codes; scripts depend on them.
const (
	exitDone        = 0
	exitPartly      = 1
	exitUsage       = 2
	exitConnect     = 3
	exitAuth        = 4
	exitFile        = 5
	exitInterrupted = 6
	exitIntegrity   = 7
	exitSIGINT      = 130
)

const exitCodeHelp = `Exit codes:
  0    all done
  1    some files failed, the rest are done; or the disk or quota is full
  2    wrong usage or configuration
  3    cannot connect
  4    authentication or host key
  5    not found or permission denied
  6    interrupted, connection lost or taken over: run it again, it goes on
  7    integrity: the source changed under the copy, or a digest did not match
  130  interrupted by SIGINT; what arrived is kept`

// A codedError says its exit code itself.
type codedError interface{ exitCode() int }

// exitTable maps errors to exit codes; the first line that errors.Is is it.
var exitTable = []struct {
	err  error
	code int
}{
	{tree.ErrSourceChanged, exitIntegrity},
	{tree.ErrIntegrity, exitIntegrity},
	{tree.ErrLost, exitInterrupted},
	{tree.ErrTakenOver, exitInterrupted},
	{tree.ErrBusy, exitInterrupted},
	{tree.ErrNoSpace, exitPartly},
	{tree.ErrQuota, exitPartly},
	{fs.ErrNotExist, exitFile},
	{fs.ErrPermission, exitFile},
	{context.Canceled, exitInterrupted},
}

// exitCode returns the exit code for what a command returned.
func exitCode(err error) int {
	if err == nil {
		return exitDone
	}
	var coded codedError
	if errors.As(err, &coded) {
		return coded.exitCode()
	}
	for _, line := range exitTable {
		if errors.Is(err, line.err) {
			return line.code
		}
	}
	return exitPartly
}

func (e interruptError) exitCode() int {
	if e.signal == os.Interrupt {
		return exitSIGINT
	}
	return exitInterrupted
}

// withCause puts the signal that ended ctx before the error that this led to.
func withCause(ctx context.Context, err error) error {
	var by interruptError
	if errors.As(context.Cause(ctx), &by) && !errors.As(err, new(interruptError)) {
		return fmt.Errorf("%w: %w", by, err)
	}
	return err
}

// A usageError is a command line or configuration that cannot be meant.
type usageError struct {
	err  error
	hint string
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }
func (e *usageError) exitCode() int { return exitUsage }

func usagef(format string, args ...any) error {
	return &usageError{err: fmt.Errorf(format, args...)}
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes no operand, but was given %q", cmd.CommandPath(), args[0])
	}
	return nil
}

// report tells the person what went wrong and what to do about it.
func report(env *environ, err error) {
	if err == nil {
		return
	}
	_, _ = fmt.Fprintf(env.stderr, "transfer: %v\n", err) // nowhere to report that
}
