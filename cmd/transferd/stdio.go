package main

import (
	"context"

	"github.com/spf13/cobra"

	"transferd/internal/daemon"
)

func newStdioCommand(env environ) *cobra.Command {
	join := false
	cmd := &cobra.Command{
		Use:   "stdio",
		Short: "Serve one session of transfer's protocol on stdin and stdout",
		Long: `Serve one session of transfer's own protocol on stdin and stdout, with the rights
of the account that runs it, not confined. A transfer client starts it by itself
over any sshd, where transferd is in the PATH; a key in authorized_keys can be
bound to it with command="transferd stdio".`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := hangUp(cmd.Context(), env)
			defer cancel()
			if join {
				return daemon.JoinStdio(ctx, stdio{env.stdin, env.stdout})
			}
			return daemon.ServeStdio(ctx, stdio{env.stdin, env.stdout}, env.stderr)
		},
	}
	cmd.Flags().BoolVar(&join, "join", false, "be one more stream of a session that runs already")
	return cmd
}

// hangUp returns a context that any signal ends, also SIGHUP: sshd has gone.
func hangUp(ctx context.Context, env environ) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-env.signals:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}
