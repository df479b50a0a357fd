package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"

	"transferd/config"
)

// listen opens every address, or none.
func listen(ctx context.Context, addresses []string) ([]net.Listener, error) {
	var (
		lc        net.ListenConfig
		listeners []net.Listener
	)
	for _, address := range addresses {
		l, err := lc.Listen(ctx, "tcp", address)
		if err != nil {
			for _, open := range listeners {
				_ = open.Close() // nobody has connected yet
			}
			return nil, listenError(address, err)
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

// listenError says what to do about the usual causes.
func listenError(address string, err error) error {
	const other = "choose another address with --ssh-listen or ssh.listen"
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		return fmt.Errorf("ssh: %s: no address is known for %q: write an IP address, or :PORT for every address of this machine", address, dns.Name)
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("ssh: %s is in use, perhaps by another transferd: stop that one, or %s", address, other)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("ssh: may not listen on %s (ports below 1024 are root's): %s", address, other)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("ssh: this machine has no address %s: %s", address, other)
	}
	return fmt.Errorf("ssh: listen on %s: %w", address, err)
}

// ready tells whoever started the daemon that it can be reached, and by which
// key it is known.
func (d *daemon) ready(ctx context.Context, listeners []net.Listener, fingerprints []string) {
	var err error
	say := func(format string, args ...any) {
		if err == nil {
			_, err = fmt.Fprintf(d.stdout, "transferd: "+format+"\n", args...)
		}
	}
	for _, fingerprint := range fingerprints {
		say("host key %s", fingerprint)
	}
	for _, l := range listeners {
		say("ssh listening on %s", l.Addr())
		d.log.InfoContext(ctx, "listening", "protocol", "ssh", "address", l.Addr().String())
	}
	if err != nil {
		d.log.WarnContext(ctx, "standard output is gone", "err", err) // serving goes on
	}
}

// changedFixed names the settings that differ and cannot change while running.
func changedFixed(a, b config.Server) []string {
	var keys []string
	for key, same := range map[string]bool{
		"ssh.listen":    slices.Equal(a.SSH.Listen, b.SSH.Listen),
		"ssh.host_keys": slices.Equal(a.SSH.HostKeys, b.SSH.HostKeys),
		"state_dir":     a.StateDir == b.StateDir,
		"log.format":    a.Log.Format == b.Log.Format,
	} {
		if !same {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}
