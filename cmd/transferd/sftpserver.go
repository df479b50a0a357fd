package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"transferd/internal/daemon"
)

func newSFTPServerCommand(env environ) *cobra.Command {
	return &cobra.Command{
		Use:   "sftp-server [-ehR] [-d DIR] [-f FACILITY] [-l LEVEL] [-P LIST] [-p LIST] [-u UMASK] | -Q requests",
		Short: "Serve one SFTP session on stdin and stdout, as OpenSSH's sftp-server does",
		Long: `Serve one SFTP session on stdin and stdout with the rights of the account that
runs it, not confined. It takes the flags of OpenSSH's sftp-server and can stand
in its place in sshd_config:
  Subsystem sftp /usr/local/bin/transferd sftp-server

  -R           read-only
  -d DIR       start there; %d is the home directory, %u the user
  -u UMASK     taken from the permissions of everything that is made
  -p LIST      allow only these requests, separated by commas
  -P LIST      refuse these requests
  -Q requests  list the requests that -p and -P take
  -e           log to stderr instead of syslog
  -l LEVEL     QUIET, FATAL, ERROR (default), INFO, VERBOSE, DEBUG, DEBUG1-3
  -f FACILITY  of syslog: AUTH (default), DAEMON, USER, LOCAL0-7
  -h           show the usage`,
		DisableFlagParsing: true, // its letters mean what OpenSSH's do
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, arg := range args {
				if arg == "--help" {
					return cmd.Help()
				}
			}
			return sftpServer(cmd.Context(), env, args)
		},
	}
}

func sftpServer(ctx context.Context, env environ, args []string) error {
	o, err := daemon.ParseSFTPServer(args)
	if err != nil {
		return &usageError{err, "'transferd sftp-server --help' lists its flags"}
	}
	switch {
	case o.Help:
		_, err := fmt.Fprint(env.stderr, daemon.SFTPServerUsage)
		return err
	case o.Query != "":
		_, err := fmt.Fprintln(env.stdout, strings.Join(daemon.SFTPRequests(), "\n"))
		return err
	}
	ctx, cancel := hangUp(ctx, env)
	defer cancel()
	return daemon.ServeSFTP(ctx, o, stdio{env.stdin, env.stdout}, env.stderr)
}

// A stdio is both standard streams as one.
type stdio struct{ in, out *os.File }

// Read implements io.Reader.
func (s stdio) Read(p []byte) (int, error) { return s.in.Read(p) }

// Write implements io.Writer.
func (s stdio) Write(p []byte) (int, error) { return s.out.Write(p) }

// Close implements io.Closer.
func (s stdio) Close() error { return errors.Join(s.in.Close(), s.out.Close()) }
