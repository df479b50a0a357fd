// Command transferd is the file transfer daemon: a server over SSH and TCP that
// gives each of its users files in a directory of his own and nothing else. It
// reads the command line; what the daemon does is in internal/daemon.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// One place for the signal being handled and one for a second, impatient
	// one; more are not told apart anyway.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	os.Exit(run(context.Background(), environ{
		stdin:   os.Stdin,
		stdout:  os.Stdout,
		stderr:  os.Stderr,
		signals: signals,
	}, os.Args[1:]))
}
