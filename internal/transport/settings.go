package transport

import (
	"cmp"
	"log/slog"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"transferd/auth"
	"transferd/protocol"
)

// The defaults of what ssh leaves open or unbounded.
const (
	defaultPort    = 22
	defaultCommand = "transferd"
	defaultTimeout = 30 * time.Second

	// A link is dead when keepaliveMax answers are missing. An answer is asked
	// for every keepaliveInterval, so that it is noticed after 12 s at most.
	keepaliveInterval = 4 * time.Second
	keepaliveMax      = 2
)

// settings is how one account on one server is reached.
type settings struct {
	alias string // as the target called it
	host  string // what is dialled
	port  int
	user  string
	jump  []settings // the hosts on the way, the first one dialled directly

	network    string // tcp, tcp4 or tcp6
	timeout    time.Duration
	interval   time.Duration // between keepalives; 0: none
	unanswered int           // keepalives that may stay without an answer
	ciphers    []string      // nil: auth's

	named          []string // key files that a person named with -i
	identities     []string // further key files
	certificates   []string
	identitiesOnly bool
	agent          string // ssh_config's IdentityAgent
	pubkey         bool   // the login methods that may be used
	interactive    bool
	password       bool
	ask            bool // false: BatchMode

	knownHosts []string
	policy     auth.Policy
	hash       bool
	keyAlias   string // HostKeyAlias

	way     way    // never auto for tcp:// and sftp://
	command string // that starts our program on the server, for its shell
	tcpPort int    // where the config file says that it speaks our protocol; 0: it does not say
}

// trustName is what known_hosts calls the server: host:port, or the alias that
// ssh_config gives it.
func (s settings) trustName() string {
	switch {
	case s.keyAlias != "" && s.way == wayTCP:
		return joinHostPort(s.keyAlias, s.port) // ssh's own is another server
	case s.keyAlias != "":
		return joinHostPort(s.keyAlias, defaultPort)
	}
	return joinHostPort(s.host, s.port)
}

// label names the account for people.
func (s settings) label() string { return s.user + "@" + joinHostPort(s.host, s.port) }

// key tells accounts apart: two targets with the same key share a connection.
func (s settings) key() string {
	var b strings.Builder
	for _, hop := range s.jump {
		b.WriteString(hop.label() + " ")
	}
	return b.String() + s.label() + " " + string(s.way) + " " + s.command
}

// resolver finds the settings of hosts.
type resolver struct {
	o   Options
	m   machine
	log *slog.Logger
}

func newResolver(o Options, log *slog.Logger) *resolver {
	m := machine{system: systemConfig()}
	// HOME before the account's own directory, which is what every other
	// program of this client goes by.
	m.home, _ = os.UserHomeDir() // "" is answered for where it is used
	if u, err := user.Current(); err == nil {
		m.user = u.Username
		if i := strings.LastIndexByte(m.user, '\\'); i >= 0 {
			m.user = m.user[i+1:] // DOMAIN\name on Windows
		}
		m.home = cmp.Or(m.home, u.HomeDir)
	}
	m.user = cmp.Or(m.user, os.Getenv("USER"), os.Getenv("USERNAME"))
	return &resolver{o: o, m: m, log: log}
}

// place is the server part of a target, or of a jump host.
type place struct {
	user string
	host string
	port int
}

// resolve finds the settings of t: flags, then the config file's hosts, then
// ssh_config.
func (r *resolver) resolve(t Target) (settings, error) {
	vals := values{}
	if err := r.flags(vals); err != nil {
		return settings{}, err
	}
	entry, _ := r.host(t.Host)
	how, err := wayTo(t, r.o.Transport, entry.Transport)
	if err != nil {
		return settings{}, err
	}
	p := place{user: t.User, host: t.Host, port: t.Port}
	if how == wayTCP {
		// The ports that ssh_config and -o know are those of SSH.
		p.port = cmp.Or(t.Port, r.o.Port, entry.TCPPort, protocol.TCPPort)
	}
	s, err := r.settings(p, vals, r.o.Identities)
	if err != nil {
		return settings{}, err
	}
	s.way, s.command, s.tcpPort = how, cmp.Or(entry.RemoteCommand, defaultCommand), entry.TCPPort
	if s.jump, err = r.jumps(vals, s, 0); err != nil {
		return settings{}, err
	}
	return s, nil
}

// flags puts what the command line says into vals.
func (r *resolver) flags(vals values) error {
	if r.o.Port != 0 {
		vals.add("port", strconv.Itoa(r.o.Port), "-P")
	}
	if r.o.Jump != "" {
		vals.add("proxyjump", r.o.Jump, "-J")
	}
	if r.o.Ciphers != "" {
		vals.add("ciphers", r.o.Ciphers, "-c")
	}
	r.commonFlags(vals)
	for _, option := range r.o.SSHOptions {
		key, text, err := parseOption(option)
		if err != nil {
			return err
		}
		vals.add(key, text, "-o")
	}
	return nil
}

// commonFlags puts the flags into vals that count for jump hosts too.
func (r *resolver) commonFlags(vals values) {
	if r.o.IPv4 {
		vals.add("addressfamily", "inet", "-4")
	}
	if r.o.IPv6 {
		vals.add("addressfamily", "inet6", "-6")
	}
	if r.o.HostKeyCheck != "" {
		vals.add("stricthostkeychecking", r.o.HostKeyCheck, "--host-key-check")
	}
}

// settings finds what vals, the config file's hosts and ssh_config say of the
// server at p, in this order; it leaves jump empty and adds to vals.
func (r *resolver) settings(p place, vals values, named []string) (settings, error) {
	if p.user != "" {
		vals["user"] = []value{{text: p.user, origin: "target"}}
	}
	if p.port != 0 {
		vals["port"] = []value{{text: strconv.Itoa(p.port), origin: "target"}}
	}
	s := settings{alias: p.host, named: named}
	if h, ok := r.host(p.host); ok {
		origin := "hosts entry " + h.Name
		if h.Address != "" {
			// The entry means this address, not a pattern of ssh's.
			vals.add("hostname", strings.ReplaceAll(h.Address, "%", "%%"), origin)
		}
		if h.User != "" {
			vals.add("user", h.User, origin)
		}
		if h.Port != 0 {
			vals.add("port", strconv.Itoa(h.Port), origin)
		}
		if h.Jump != "" {
			vals.add("proxyjump", h.Jump, origin)
		}
		for _, file := range h.Identities {
			vals.add("identityfile", strings.ReplaceAll(file, "%", "%%"), origin)
		}
	}
	if err := configFiles(r.o, r.m, p.host, vals, r.log); err != nil {
		return settings{}, err
	}
	if err := r.fill(&s, vals); err != nil {
		return settings{}, err
	}
	if cmd := vals.first("proxycommand"); cmd != "" && cmd != "none" && vals.first("proxyjump") == "" {
		r.log.Warn("ProxyCommand of ssh_config is not supported, the host is dialled directly; use ProxyJump",
			"host", p.host, "origin", vals["proxycommand"][0].origin)
	}
	return s, nil
}

func (r *resolver) host(name string) (Host, bool) {
	for _, h := range r.o.Hosts {
		if strings.EqualFold(h.Name, name) {
			return h, true
		}
	}
	return Host{}, false
}

// jumps returns the hosts on the way to s, in the order of dialling.
func (r *resolver) jumps(vals values, s settings, depth int) ([]settings, error) {
	const maxJumps = 16 // as many hops as nobody needs: the files refer to each other
	list := vals.first("proxyjump")
	if list == "" || strings.EqualFold(list, "none") {
		return nil, nil
	}
	origin := vals["proxyjump"][0].origin
	var way []settings
	for i, text := range strings.Split(list, ",") {
		if depth+i >= maxJumps {
			return nil, usage("%s: the ProxyJump hosts of %s lead in a circle", origin, s.alias)
		}
		p, err := parseHop(strings.TrimSpace(text))
		if err != nil {
			return nil, usage("%s: %v", origin, err)
		}
		hopVals := values{}
		r.commonFlags(hopVals)
		hop, err := r.settings(p, hopVals, nil)
		if err != nil {
			return nil, err
		}
		// Unlike ssh, which forgets -i on the way: the key that a person names
		// often opens the jump host too. It comes after the host's own.
		hop.identities = append(slices.Clip(hop.identities), r.o.Identities...)
		if i == 0 {
			if way, err = r.jumps(hopVals, hop, depth+1); err != nil {
				return nil, err
			}
		}
		way = append(way, hop)
	}
	return way, nil
}

// parseHop reads a jump host: [user@]host[:port], with brackets around an IPv6
// address, or ssh://[user@]host[:port].
func parseHop(text string) (place, error) {
	if !strings.Contains(text, "://") {
		text = "ssh://" + text
	}
	t, err := ParseTarget(text)
	if err != nil {
		return place{}, err
	}
	if t.Scheme != SchemeSSH || t.Path != "" {
		return place{}, usage("%q is no jump host: write [user@]host[:port]", text)
	}
	return place{user: t.User, host: t.Host, port: t.Port}, nil
}
