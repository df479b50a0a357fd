package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"transferd/config"
	"transferd/internal/daemon"
)

// checkFaults is what check has found beyond the configuration's own faults.
type checkFaults []error

func (f checkFaults) Error() string { return errors.Join(f...).Error() }

func newCheckCommand(env environ) *cobra.Command {
	var flags serveFlags
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say whether the configuration is right",
		Long: `Read the configuration as serve would, and the key files that it names, and
report every fault at once. Nothing is changed or started.

` + exitCodeHelp,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return check(env, flags) },
	}
	flags.add(cmd)
	return cmd
}

func check(env environ, flags serveFlags) error {
	path := config.FindServer(flags.config)
	c, err := config.LoadServer(path, flags.server)
	if err != nil {
		var faults config.Faults
		if errors.As(err, &faults) {
			return &usageError{err, count(len(faults), "fault")}
		}
		return err
	}
	for _, warning := range c.Warnings {
		if _, err := fmt.Fprintf(env.stderr, "transferd: warning: %s\n", warning); err != nil {
			return err
		}
	}
	if faults := daemon.Check(c); len(faults) > 0 {
		return checkFaults(faults)
	}
	if path == "" {
		path = "flags and environment"
	}
	_, err = fmt.Fprintf(env.stdout, "%s: right; %s, listening on %s\n",
		path, count(len(c.Users), "user"), strings.Join(c.SSH.Listen, ", "))
	return err
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
