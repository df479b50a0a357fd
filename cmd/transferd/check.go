package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"transferd/config"
	"transferd/internal/daemon"
)

// checkFaults is all that check has found.
type checkFaults []string

func (f checkFaults) Error() string { return strings.Join(f, "\n") }

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
	var faults config.Faults
	if err != nil && !errors.As(err, &faults) {
		return err
	}
	if found := merge(faults, daemon.Check(c)); len(found) > 0 {
		return &usageError{found, count(len(found), "fault")}
	}
	for _, warning := range c.Warnings {
		if _, err := fmt.Fprintf(env.stderr, "transferd: warning: %s\n", warning); err != nil {
			return err
		}
	}
	if path == "" {
		path = "flags and environment"
	}
	_, err = fmt.Fprintf(env.stdout, "%s: right; %s, ssh listening on %s, %s\n",
		path, count(len(c.Users), "user"), strings.Join(c.SSH.Listen, ", "), tcpListen(c.TCP.Listen))
	return err
}

func tcpListen(addresses []string) string {
	if len(addresses) == 0 {
		return "tcp nowhere"
	}
	return "tcp on " + strings.Join(addresses, ", ")
}

// merge adds what lies in the keys to what the configuration itself has wrong,
// of which it may know too.
func merge(faults config.Faults, keys []daemon.Fault) checkFaults {
	var found checkFaults
	known := map[string]bool{}
	for _, f := range faults {
		found = append(found, f.String())
		known[f.Key] = true
	}
	for _, f := range keys {
		// With --authorized-keys that is what the key of the only user is called.
		if !known[f.Key] && !known["authorized_keys"] {
			found = append(found, f.Err.Error())
		}
	}
	return found
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
