// Command transfer copies files between this machine and others, resumably,
// and manages files and keys there. It is the terminal's side of the system:
// operands, flags, progress, prompts and exit codes; it never moves a byte of
// a file itself, that is package transfer's work.
package main

import (
	"context"
	"os"
	"runtime/debug"
)

// While the process is small, garbage may lie: collecting it four times as often
// cost a seventh of the time of 10,000 small files. The limit keeps it small.
const (
	garbage     = 400 // percent of what is in use
	memoryLimit = 96 << 20
)

func main() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(garbage)
		debug.SetMemoryLimit(memoryLimit)
	}
	ctx, stop := withSignals(context.Background(), os.Exit)
	code := run(ctx, hostEnviron(), os.Args[1:])
	stop()
	os.Exit(code)
}
