package main

import (
	"context"

	"github.com/spf13/cobra"

	"transferd/config"
	"transferd/internal/daemon"
)

// A serveFlags is what serve, check and init can be told.
type serveFlags struct {
	config string
	server config.ServerFlags
}

// add gives cmd the flags.
func (f *serveFlags) add(cmd *cobra.Command) {
	set := cmd.Flags()
	set.StringVar(&f.config, "config", "", "configuration `FILE` (default /etc/transferd/transferd.yaml, else $XDG_CONFIG_HOME/transferd/transferd.yaml)")
	set.StringArrayVar(&f.server.SSHListen, "ssh-listen", nil, "`ADDRESS` to listen on, host:port; may be repeated (default :2022)")
	set.StringArrayVar(&f.server.TCPListen, "tcp-listen", nil, "`ADDRESS` for transfer's own protocol on TCP, or none; may be repeated (default port 2023 where SSH listens)")
	set.StringVar(&f.server.Root, "root", "", "`DIR` to serve to the keys of --authorized-keys")
	set.StringVar(&f.server.AuthorizedKeys, "authorized-keys", "", "`FILE` of the keys that may log in, as the account that starts transferd")
	set.StringVar(&f.server.StateDir, "state-dir", "", "`DIR` for the host key and the index of unfinished uploads")
	set.StringVar(&f.server.LogLevel, "log-level", "", "`LEVEL` of the log: debug, info, warn or error")
	set.StringVar(&f.server.LogFormat, "log-format", "", "`FORMAT` of the log: text or json")
}

// load reads the configuration that the flags name.
func (f *serveFlags) load() (config.Server, error) {
	return config.LoadServer(config.FindServer(f.config), f.server)
}

func newServeCommand(env environ) *cobra.Command {
	var flags serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve until SIGTERM; what transferd does without a command",
		Long: `Serve files over SSH and raw TCP. When it is ready it prints the fingerprint of its host key
and a line for each address that it listens on. SIGTERM and SIGINT end it in
good order, SIGHUP makes it read its configuration again: users, limits and the
log level change at once, addresses and host keys with a restart.

` + exitCodeHelp,
		Example: `  transferd serve --root /srv/data --authorized-keys ~/.ssh/authorized_keys
  transferd serve --config /etc/transferd/transferd.yaml`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), env, flags) },
	}
	flags.add(cmd)
	return cmd
}

func serve(ctx context.Context, env environ, flags serveFlags) error {
	return daemon.Run(ctx, daemon.Options{
		Load:    flags.load,
		Signals: env.signals,
		Stdout:  env.stdout,
		Stderr:  env.stderr,
	})
}
