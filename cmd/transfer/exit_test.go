package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"testing"

	"transferd/auth"
	"transferd/config"
	"transferd/internal/transfer"
	"transferd/internal/transport"
	"transferd/internal/tree"
)

func TestExitCode(t *testing.T) {
	missing := fmt.Errorf("open a: %w", fs.ErrNotExist)
	tests := []struct {
		name string
		err  error
		want int
	}{
		{"nothing wrong", nil, 0},
		{"unknown", errors.New("boom"), 1},
		{"usage", usagef("no"), 2},
		{"usage of a target", fmt.Errorf("x: %w", transport.ErrUsage), 2},
		{"operands that do not fit", &transfer.UsageError{What: "no"}, 2},
		{"configuration", fmt.Errorf("wrong: %w", config.Faults{{Key: "k"}}), 2},
		{"connect", fmt.Errorf("dial: %w", transport.ErrConnect), 3},
		{"host key", fmt.Errorf("dial: %w", auth.ErrHostKey), 4},
		{"host key, found while connecting", errors.Join(transport.ErrConnect, auth.ErrHostKey), 4},
		{"login", fmt.Errorf("dial: %w", auth.ErrAuth), 4},
		{"passphrase", fmt.Errorf("key: %w", auth.ErrPassphrase), 4},
		{"not found", missing, 5},
		{"permission", fmt.Errorf("open: %w", fs.ErrPermission), 5},
		{"lost", fmt.Errorf("read: %w", tree.ErrLost), 6},
		{"taken over", tree.ErrTakenOver, 6},
		{"busy", tree.ErrBusy, 6},
		{"source changed", tree.ErrSourceChanged, 7},
		{"digest", tree.ErrIntegrity, 7},
		{"disk full", tree.ErrNoSpace, 1},
		{"quota", tree.ErrQuota, 1},
		{"SIGINT", interruptError{os.Interrupt}, 130},
		{"SIGTERM", interruptError{syscall.SIGTERM}, 6},
		{"told already", toldError{missing}, 5},
		{"the only file fails", &transfer.PartialError{Failed: 1, Errs: []error{missing}}, 5},
		{"the only file fails its check", &transfer.PartialError{Failed: 1, Errs: []error{tree.ErrIntegrity}}, 7},
		{"some files fail", &transfer.PartialError{Failed: 1, Done: 3, Errs: []error{missing}}, 1},
		{"all files fail alike", &transfer.PartialError{Failed: 2, Errs: []error{missing, missing}}, 5},
		{"all files fail, not alike", &transfer.PartialError{Failed: 2, Errs: []error{missing, tree.ErrIntegrity}}, 1},
		{"a directory without -r", &transfer.PartialError{Failed: 1, Errs: []error{&transfer.UsageError{What: "d is a directory"}}}, 2},
		{"some operands fail", toldError{&partlyError{failed: 1, all: 2, errs: []error{missing}}}, 1},
		{"all operands fail alike", toldError{&partlyError{failed: 2, all: 2, errs: []error{missing, missing}}}, 5},
		{"joined with what closing said", errors.Join(missing, nil), 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := exitCode(tt.err); got != tt.want {
				t.Errorf("exitCode(%v) = %d, want %d", tt.err, got, tt.want)
			}
		})
	}
}

func TestInterruptTakesThePlaceOfItsConsequences(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	lost := fmt.Errorf("read: %w", tree.ErrLost)
	if got := exitCode(withCause(ctx, lost)); got != exitInterrupted {
		t.Errorf("before the signal the exit code is %d, want %d", got, exitInterrupted)
	}
	cancel(interruptError{os.Interrupt})
	if got := exitCode(withCause(ctx, lost)); got != exitSIGINT {
		t.Errorf("after SIGINT the exit code is %d, want %d", got, exitSIGINT)
	}
	if err := withCause(ctx, nil); err != nil {
		t.Errorf("a copy that was done before the signal gives %v", err)
	}
}
