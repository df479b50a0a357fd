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

// listeners are the open ports.
type listeners struct{ ssh, tcp []net.Listener }

func (l listeners) close() {
	for _, open := range slices.Concat(l.ssh, l.tcp) {
		_ = open.Close() // nobody has connected yet
	}
}

// listen opens every address, or none. Of addresses for TCP that nobody named
// those that are taken are left out.
func (d *daemon) listen(ctx context.Context, c config.Server) (listeners, error) {
	var on listeners
	for _, address := range c.SSH.Listen {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err != nil {
			on.close()
			return on, listenError("ssh", address, err)
		}
		on.ssh = append(on.ssh, l)
	}
	for _, address := range c.TCP.Listen {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		switch {
		case err == nil:
			on.tcp = append(on.tcp, l)
		case c.TCP.Implied:
			d.log.WarnContext(ctx, "no TCP port of our own protocol", "err", listenError("tcp", address, err))
		default:
			on.close()
			return on, listenError("tcp", address, err)
		}
	}
	d.tcpPort.Store(uint32(joinPort(on.tcp)))
	return on, nil
}

// joinPort is the port at which clients can join that came by another: one that
// is open on every address, 0 if there is none and they would have to guess.
func joinPort(tcp []net.Listener) uint16 {
	for _, l := range tcp {
		if a, ok := l.Addr().(*net.TCPAddr); ok && (a.IP.IsUnspecified() || len(tcp) == 1) {
			return a.AddrPort().Port()
		}
	}
	return 0
}

// listenError says what to do about the usual causes.
func listenError(protocol, address string, err error) error {
	other := fmt.Sprintf("choose another address with --%[1]s-listen or %[1]s.listen", protocol)
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		return fmt.Errorf("%s: %s: no address is known for %q: write an IP address, or :PORT for every address of this machine", protocol, address, dns.Name)
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s: %s is in use, perhaps by another transferd: stop that one, or %s", protocol, address, other)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s: may not listen on %s (ports below 1024 are root's): %s", protocol, address, other)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s: this machine has no address %s: %s", protocol, address, other)
	}
	return fmt.Errorf("%s: listen on %s: %w", protocol, address, err)
}

// ready tells whoever started the daemon that it can be reached, and by which
// key it is known.
func (d *daemon) ready(ctx context.Context, on listeners, fingerprints []string) {
	var err error
	say := func(format string, args ...any) {
		if err == nil {
			_, err = fmt.Fprintf(d.stdout, "transferd: "+format+"\n", args...)
		}
	}
	for _, fingerprint := range fingerprints {
		say("host key %s", fingerprint)
	}
	for _, l := range on.ssh {
		say("ssh listening on %s", l.Addr())
		d.log.InfoContext(ctx, "listening", "protocol", "ssh", "address", l.Addr().String())
	}
	for _, l := range on.tcp {
		say("tcp listening on %s", l.Addr())
		d.log.InfoContext(ctx, "listening", "protocol", "tcp", "address", l.Addr().String())
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
		"tcp.listen":    slices.Equal(a.TCP.Listen, b.TCP.Listen),
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
