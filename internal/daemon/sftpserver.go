package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"transferd/internal/session"
	"transferd/internal/store"
	"transferd/internal/transport/sftp"
	"transferd/internal/tree"
)

// SFTPServerUsage is what sftp-server -h prints.
const SFTPServerUsage = `usage: transferd sftp-server [-ehR] [-d start_directory] [-f log_facility]
	[-l log_level] [-P denied_requests] [-p allowed_requests] [-u umask]
       transferd sftp-server -Q protocol_feature
`

// SFTPServerOptions are the settings of one sftp-server.
type SFTPServerOptions struct {
	Help  bool   // -h: show the usage and do nothing
	Query string // -Q: show what it names and do nothing

	ReadOnly    bool     // -R
	Directory   string   // -d: where the session starts; "" the working directory
	Allow, Deny []string // -p, -P; nil: not given
	Umask       *uint32  // -u; nil: the process's own

	Stderr   bool       // -e: log to stderr instead of syslog
	Level    slog.Level // -l
	Facility string     // -f; "" is auth
}

// ErrSFTPUsage is a command line that sftp-server does not understand.
var ErrSFTPUsage = errors.New("sftp-server")

// ParseSFTPServer reads the command line of OpenSSH's sftp-server(8), with the
// same letters and meanings.
func ParseSFTPServer(args []string) (SFTPServerOptions, error) {
	o := SFTPServerOptions{Level: slog.LevelError}
	// -c: called as a login shell, whose command is none of ours.
	letters, err := getopt(args, "d:f:l:P:p:Q:u:cehR", func(name byte) bool { return name == 'c' })
	if err != nil {
		return o, fmt.Errorf("%w: %w", ErrSFTPUsage, err)
	}
	for _, l := range letters {
		if err := o.take(l); err != nil {
			return o, fmt.Errorf("%w: -%c: %w", ErrSFTPUsage, l.name, err)
		}
	}
	return o, nil
}

func (o *SFTPServerOptions) take(l letter) (err error) {
	switch l.name {
	case 'h':
		o.Help = true
	case 'Q':
		if l.value != "requests" {
			return fmt.Errorf("%q is no feature: requests is the only one", l.value)
		}
		o.Query = l.value
	case 'R':
		o.ReadOnly = true
	case 'd':
		o.Directory = l.value
	case 'p':
		o.Allow, err = requests(o.Allow, l.value)
	case 'P':
		o.Deny, err = requests(o.Deny, l.value)
	case 'u':
		mask, parseErr := strconv.ParseUint(l.value, 8, 32)
		if parseErr != nil || mask > 0o777 {
			return fmt.Errorf("%q is no umask: three octal digits", l.value)
		}
		m := uint32(mask)
		o.Umask = &m
	case 'e':
		o.Stderr = true
	case 'l':
		o.Level, err = parseLevel(l.value)
	case 'f':
		o.Facility = strings.ToUpper(l.value)
		_, err = parseFacility(o.Facility)
	}
	return err
}

// requests reads a list of requests. OpenSSH too takes it once only.
func requests(given []string, list string) ([]string, error) {
	if given != nil {
		return nil, errors.New("was given already")
	}
	names := []string{}
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		// A misspelt name in -P would allow what was to be denied.
		if !slices.Contains(sftp.RequestNames(), name) {
			return nil, fmt.Errorf("%q is no request: -Q requests lists them", name)
		}
		names = append(names, name)
	}
	return names, nil
}

// SFTPRequests lists the requests that -p and -P take.
func SFTPRequests() []string { return sftp.RequestNames() }

// stopGrace is how long ServeSFTP waits, after ctx has ended, for what runs.
const stopGrace = 3 * time.Second

// ServeSFTP serves one session at rw with the rights of this process, as
// sshd's "Subsystem sftp" wants it. It returns when the client has hung up or
// ctx ends.
func ServeSFTP(ctx context.Context, o SFTPServerOptions, rw io.ReadWriteCloser, stderr io.Writer) error {
	log, closeLog := sftpLogger(o, stderr)
	defer closeLog()
	log = log.With("remote", remoteHost(os.Getenv("SSH_CONNECTION")))
	if o.Umask != nil {
		defer syscall.Umask(syscall.Umask(int(*o.Umask)))
	}
	// The operating system decides what this process may do.
	host := store.Host(store.Options{Owners: true, Log: log})
	defer func() { _ = host.Close() }() // nothing of it is held open
	home, err := startDirectory(ctx, o.Directory, log)
	if err != nil {
		return err
	}
	s := session.New(host, session.Login{User: userName(), Permissions: session.All})
	log.InfoContext(ctx, "session opened", "user", userName())
	defer log.InfoContext(ctx, "session closed", "user", userName())

	served := make(chan error, 1)
	go func() {
		served <- sftp.Serve(ctx, rw, s, sftp.ServerOptions{
			Home:     home,
			ReadOnly: o.ReadOnly,
			Allow:    o.Allow,
			Deny:     o.Deny,
			Umask:    o.Umask,
			Homes:    homeOf,
			Log:      log,
		})
	}()
	select {
	case err = <-served:
	case <-ctx.Done():
		// A read from a pipe cannot be interrupted, so only what runs is awaited.
		timer := time.NewTimer(stopGrace)
		defer timer.Stop()
		select {
		case err = <-served:
		case <-timer.C:
		}
	}
	if err != nil && ctx.Err() == nil {
		log.ErrorContext(ctx, "session broke", "err", err)
		return fmt.Errorf("sftp-server: %w", err)
	}
	return nil
}

// startDirectory is where the session starts. As OpenSSH's does, it goes on
// where it is if it cannot go to dir.
func startDirectory(ctx context.Context, dir string, log *slog.Logger) (tree.Path, error) {
	if dir != "" {
		expanded := expandDirectory(dir)
		info, err := os.Stat(expanded)
		if err == nil && !info.IsDir() {
			err = tree.ErrNotDir
		}
		if err == nil {
			return store.HostPath(expanded)
		}
		log.ErrorContext(ctx, "start directory", "path", expanded, "err", err)
	}
	return store.HostPath(".")
}

// expandDirectory replaces ~ and ~user at the front, %d (the home directory),
// %u (the user) and %%.
func expandDirectory(dir string) string {
	home := ""
	if me, err := user.Current(); err == nil {
		home = me.HomeDir
	}
	if rest, ok := strings.CutPrefix(dir, "~"); ok {
		name, rest, _ := strings.Cut(rest, "/")
		base := home
		if other, err := user.Lookup(name); name != "" && err == nil {
			base = other.HomeDir
		}
		dir = filepath.Join(base, rest)
	}
	return strings.NewReplacer("%%", "%", "%d", home, "%u", userName()).Replace(dir)
}

func homeOf(name string) (tree.Path, error) {
	find := user.Current
	if name != "" {
		find = func() (*user.User, error) { return user.Lookup(name) }
	}
	who, err := find()
	if err != nil {
		return "", fmt.Errorf("home of %q: %w", name, os.ErrNotExist)
	}
	return store.HostPath(who.HomeDir)
}

func userName() string {
	if me, err := user.Current(); err == nil {
		return me.Username
	}
	return strconv.Itoa(os.Getuid())
}

// remoteHost is the client's address as sshd puts it in the environment.
func remoteHost(connection string) string {
	host, _, _ := strings.Cut(connection, " ")
	if host == "" {
		return "unknown"
	}
	return host
}
