// Command transfer copies files between this machine and others, resumably,
// and manages files and keys there. It is the terminal's side of the system:
// operands, flags, progress, prompts and exit codes; it never moves a byte of
// a file itself, that is package transfer's work.
package main

import (
	"context"
	"os"
)

func main() {
	ctx, stop := withSignals(context.Background(), os.Exit)
	code := run(ctx, hostEnviron(), os.Args[1:])
	stop()
	os.Exit(code)
}
