package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"transferd/auth"
	"transferd/config"
	"transferd/internal/transfer"
	"transferd/internal/transport"
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

// exitTable maps errors to exit codes; the first line that errors.Is is it. An
// error that says its code itself (codedError) goes before, and what stands in
// no line is exitPartly.
func exitTable() []exitLine {
	return []exitLine{
		{transport.ErrUsage, exitUsage},
		{auth.ErrHostKey, exitAuth},
		{auth.ErrAuth, exitAuth},
		{auth.ErrPassphrase, exitAuth},
		{transport.ErrConnect, exitConnect},
		{tree.ErrSourceChanged, exitIntegrity},
		{tree.ErrIntegrity, exitIntegrity},
		{tree.ErrLost, exitInterrupted},
		{tree.ErrTakenOver, exitInterrupted},
		{tree.ErrBusy, exitInterrupted},
		{tree.ErrNoSpace, exitPartly},
		{tree.ErrQuota, exitPartly},
		{fs.ErrNotExist, exitFile},
		{fs.ErrPermission, exitFile},
		{tree.ErrEscape, exitFile},
		{tree.ErrNotDir, exitFile},
		{context.Canceled, exitInterrupted},
		{context.DeadlineExceeded, exitInterrupted},
	}
}

type exitLine struct {
	err  error
	code int
}

// A codedError says its exit code itself.
type codedError interface{ exitCode() int }

// exitCode returns the exit code for what a command returned.
func exitCode(err error) int {
	if err == nil {
		return exitDone
	}
	if partial := new(transfer.PartialError); errors.As(err, &partial) {
		return codeOf(partial.Errs, partial.Done)
	}
	var coded codedError
	if errors.As(err, &coded) {
		return coded.exitCode()
	}
	if errors.As(err, new(config.Faults)) || errors.As(err, new(*transfer.UsageError)) {
		return exitUsage
	}
	for _, line := range exitTable() {
		if errors.Is(err, line.err) {
			return line.code
		}
	}
	return exitPartly
}

// codeOf returns the exit code of a command whose operands failed with errs
// while done others did not: the common code if nothing was done at all, else
// exitPartly.
func codeOf(errs []error, done int64) int {
	if done > 0 || len(errs) == 0 {
		return exitPartly
	}
	code := exitCode(errs[0])
	for _, err := range errs[1:] {
		if exitCode(err) != code {
			return exitPartly
		}
	}
	return code
}

func (e interruptError) exitCode() int {
	if e.signal == os.Interrupt {
		return exitSIGINT
	}
	return exitInterrupted
}

// withCause puts the signal that ended ctx in the place of the error that this
// led to.
func withCause(ctx context.Context, err error) error {
	var by interruptError
	if err != nil && errors.As(context.Cause(ctx), &by) {
		return by
	}
	return err
}

// A usageError is a command line that cannot be meant.
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

// A partlyError says that some of several operands failed; each was told.
type partlyError struct {
	failed, all int
	errs        []error
}

func (e *partlyError) Error() string   { return fmt.Sprintf("%d of %d failed", e.failed, e.all) }
func (e *partlyError) Unwrap() []error { return e.errs }
func (e *partlyError) exitCode() int   { return codeOf(e.errs, int64(e.all-e.failed)) }

// noArgs is atLeast for a command without operands.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes no operand, but was given %q", cmd.CommandPath(), args[0])
	}
	return nil
}

// atLeast asks for n operands or more; what says what is missing.
func atLeast(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < n {
			return &usageError{
				err:  fmt.Errorf("%s is missing", what),
				hint: fmt.Sprintf("usage: %s", cmd.UseLine()),
			}
		}
		return nil
	}
}

// asPartial returns the PartialError in err.
func asPartial(err error) (*transfer.PartialError, bool) {
	partial := new(transfer.PartialError)
	ok := errors.As(err, &partial)
	return partial, ok
}
