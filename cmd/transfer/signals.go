package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// suspendTime is how long an interrupted copy may take to make durable what
// has arrived, as the exit code 130 promises.
const suspendTime = 3 * time.Second

// An interruptError is the cause of a context that a signal ended.
type interruptError struct{ signal os.Signal }

func (e interruptError) Error() string {
	if e.signal == os.Interrupt {
		return "interrupted"
	}
	return "ended by " + e.signal.String()
}

// withSignals returns a context that the first SIGINT, SIGTERM or SIGHUP ends,
// its cause an interruptError. A second one, or suspendTime running out, calls
// exit at once. The caller calls stop when it needs neither any more.
func withSignals(parent context.Context, exit func(int)) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	caught := make(chan os.Signal, 1) // 1: package signal drops what nobody waits for
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup
		signals = append(signals, syscall.SIGHUP)
	}
	signal.Notify(caught, signals...)
	done := make(chan struct{})
	go func() {
		select {
		case <-done:
			return
		case sig := <-caught:
			cancel(interruptError{sig})
		}
		timer := time.NewTimer(suspendTime)
		defer timer.Stop()
		select {
		case <-done:
		case <-timer.C:
			exit(exitCode(context.Cause(ctx)))
		case sig := <-caught:
			exit(exitCode(interruptError{sig}))
		}
	}()
	return ctx, func() {
		signal.Stop(caught)
		close(done)
		cancel(nil)
	}
}
