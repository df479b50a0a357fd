package transport

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"transferd/auth"
)

// The defaults of what ssh leaves open or unbounded.
const (
	defaultPort    = 22
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

	transport string // auto or sftp
}

// trustName is what known_hosts calls the server: host:port, or the alias that
// ssh_config gives it.
func (s settings) trustName() string {
	if s.keyAlias != "" {
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
	return b.String() + s.label() + " " + s.transport
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
	p := place{user: t.User, host: t.Host, port: t.Port}
	s, err := r.settings(p, vals, r.o.Identities, r.o.Transport)
	if err != nil {
		return settings{}, err
	}
	if s.jump, err = r.jumps(vals, s, 0); err != nil {
		return settings{}, err
	}
	switch {
	case s.transport == "", s.transport == "auto", s.transport == "sftp":
		s.transport = "sftp" // all that auto can choose in this version
	default:
		return settings{}, checkTransport(s.transport)
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
func (r *resolver) settings(p place, vals values, named []string, transport string) (settings, error) {
	if p.user != "" {
		vals["user"] = []value{{text: p.user, origin: "target"}}
	}
	if p.port != 0 {
		vals["port"] = []value{{text: strconv.Itoa(p.port), origin: "target"}}
	}
	s := settings{alias: p.host, named: named, transport: transport}
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
		s.transport = cmp.Or(s.transport, h.Transport)
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

// fill turns values into settings.
func (r *resolver) fill(s *settings, vals values) error {
	f := filler{vals: vals, m: r.m}
	s.port = f.port("port", defaultPort)
	s.user = cmp.Or(vals.first("user"), r.m.user)
	f.tokens = tokens{alias: s.alias, host: s.alias, port: s.port, user: s.user, local: r.m.user, home: r.m.home}
	s.host = s.alias
	if name := vals.first("hostname"); name != "" {
		s.host = f.expand("hostname", name)
	}
	s.keyAlias = vals.first("hostkeyalias")
	f.tokens.host, f.tokens.keyAlias = s.host, cmp.Or(s.keyAlias, s.host)

	s.network = f.family()
	s.timeout = f.seconds("connecttimeout", defaultTimeout)
	if r.o.Timeout > 0 {
		s.timeout = r.o.Timeout
	}
	s.interval = f.seconds("serveraliveinterval", keepaliveInterval)
	s.unanswered = f.count("serveralivecountmax", keepaliveMax)
	s.ciphers = f.ciphers()

	s.identities = f.files("identityfile")
	if len(s.identities) == 0 && len(s.named) == 0 && r.m.home != "" {
		s.identities = auth.DefaultIdentityFiles(r.m.home)
	}
	s.certificates = f.files("certificatefile")
	s.identitiesOnly = f.yes("identitiesonly", false)
	s.agent = f.agent()
	s.pubkey = f.yes("pubkeyauthentication", true)
	s.interactive = f.yes("kbdinteractiveauthentication", true)
	s.password = f.yes("passwordauthentication", true)
	s.ask = r.o.Prompt != nil && !f.yes("batchmode", false)

	f.trust(s, r.o.KnownHosts)
	if f.err == nil && s.user == "" {
		return usage("the name of the local user is not known: write user@%s", s.alias)
	}
	if f.err == nil && badHost(s.host, true) {
		return usage("%q is no host name or address (HostName of %s)", s.host, s.alias)
	}
	return f.err
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
		hop, err := r.settings(p, hopVals, nil, "")
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

func checkTransport(name string) error {
	switch name {
	case "", "auto", "sftp":
		return nil
	case "tcp", "ssh":
		return usage("transport %s is not available in this version; use --transport=auto", name)
	}
	return usage("transport %q is not known; use auto or sftp", name)
}

// filler reads values, and keeps the first error.
type filler struct {
	vals   values
	m      machine
	tokens tokens
	err    error
}

func (f *filler) fail(key string, format string, args ...any) {
	if f.err == nil {
		f.err = usage("%s: %s", f.vals[key][0].origin, fmt.Sprintf(format, args...))
	}
}

func (f *filler) port(key string, otherwise int) int {
	text := f.vals.first(key)
	if text == "" {
		return otherwise
	}
	port, err := ParsePort(text)
	if err != nil {
		f.fail(key, "%v", err)
	}
	return port
}

func (f *filler) count(key string, otherwise int) int {
	text := f.vals.first(key)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		f.fail(key, "%s %q is not a number", key, text)
	}
	return int(n)
}

func (f *filler) yes(key string, otherwise bool) bool {
	switch text := f.vals.first(key); strings.ToLower(text) {
	case "":
		return otherwise
	case "yes", "true":
		return true
	case "no", "false":
		return false
	default:
		f.fail(key, "%s %q is neither yes nor no", key, text)
		return otherwise
	}
}

// seconds reads ssh's time format: seconds, or numbers with the units s, m, h,
// d and w.
func (f *filler) seconds(key string, otherwise time.Duration) time.Duration {
	text := f.vals.first(key)
	if text == "" || strings.EqualFold(text, "none") {
		return otherwise
	}
	d, ok := parseTime(text)
	if !ok {
		f.fail(key, "%s %q is not a time, such as 10 or 1m30s", key, text)
	}
	return d
}

func parseTime(text string) (time.Duration, bool) {
	const longest = 1 << 31 // seconds
	var total int64
	for text != "" {
		end := 0
		for end < len(text) && text[end] >= '0' && text[end] <= '9' {
			end++
		}
		n, err := strconv.ParseInt(text[:end], 10, 32)
		if err != nil {
			return 0, false
		}
		unit := int64(1)
		text = text[end:]
		if text != "" {
			switch text[0] | 0x20 {
			case 's':
			case 'm':
				unit = 60
			case 'h':
				unit = 3600
			case 'd':
				unit = 24 * 3600
			case 'w':
				unit = 7 * 24 * 3600
			default:
				return 0, false
			}
			text = text[1:]
		}
		if total += n * unit; total > longest {
			return 0, false
		}
	}
	return time.Duration(total) * time.Second, true
}

func (f *filler) family() string {
	switch text := f.vals.first("addressfamily"); strings.ToLower(text) {
	case "", "any":
		return "tcp"
	case "inet":
		return "tcp4"
	case "inet6":
		return "tcp6"
	default:
		f.fail("addressfamily", "AddressFamily %q is not any, inet or inet6", text)
		return "tcp"
	}
}

func (f *filler) ciphers() []string {
	spec := f.vals.first("ciphers")
	if spec == "" {
		return nil
	}
	list, err := auth.SelectCiphers(spec)
	if err != nil {
		f.fail("ciphers", "%v", err)
	}
	return list
}

// files reads a keyword that names one file a time. "none" stands for none.
func (f *filler) files(key string) []string {
	var paths []string
	for _, v := range f.vals[key] {
		if strings.EqualFold(v.text, "none") {
			continue
		}
		paths = append(paths, f.path(key, v.text))
	}
	return paths
}

func (f *filler) agent() string {
	text := f.vals.first("identityagent")
	switch {
	case text == "", text == "SSH_AUTH_SOCK", strings.EqualFold(text, "none"):
		return text
	case text[0] == '$' && !strings.HasPrefix(text, "${"):
		return text
	}
	return f.path("identityagent", text)
}

// trust fills in which hosts are trusted. A known_hosts file named by a flag
// replaces all others.
func (f *filler) trust(s *settings, flag string) {
	switch {
	case flag != "":
		path, err := expandHome(flag, f.m)
		if err != nil && f.err == nil {
			f.err = usage("--known-hosts: %v", err)
		}
		s.knownHosts = []string{path}
	default:
		s.knownHosts = f.fileList("userknownhostsfile", filepath.Join(f.m.home, ".ssh", "known_hosts"), filepath.Join(f.m.home, ".ssh", "known_hosts2"))
		dir := filepath.Dir(f.m.system)
		s.knownHosts = append(s.knownHosts,
			f.fileList("globalknownhostsfile", filepath.Join(dir, "ssh_known_hosts"), filepath.Join(dir, "ssh_known_hosts2"))...)
	}
	s.hash = f.yes("hashknownhosts", false)
	s.policy = auth.PolicyAsk
	if text := f.vals.first("stricthostkeychecking"); text != "" {
		policy, err := auth.ParsePolicy(strings.ToLower(text))
		if err != nil {
			f.fail("stricthostkeychecking", "%v", err)
		}
		s.policy = policy
	}
	if s.policy == auth.PolicyAsk && !s.ask {
		s.policy = auth.PolicyStrict
	}
}

// fileList reads a keyword that names several files in one value.
func (f *filler) fileList(key string, otherwise ...string) []string {
	text := f.vals.first(key)
	switch {
	case text == "":
		return otherwise
	case strings.EqualFold(text, "none"):
		return nil
	}
	var paths []string
	for _, word := range splitWords(text) {
		paths = append(paths, f.path(key, word))
	}
	return paths
}

// path expands ~, ${VARIABLES} and %-tokens.
func (f *filler) path(key, text string) string {
	out, err := expandEnv(text)
	if err != nil {
		f.fail(key, "%v", err)
	}
	out = f.expand(key, out)
	if out, err = expandHome(out, f.m); err != nil {
		f.fail(key, "%v", err)
	}
	return out
}

func (f *filler) expand(key, text string) string {
	out, err := f.tokens.expand(text)
	if err != nil {
		f.fail(key, "%s %q: %v", key, text, err)
	}
	return out
}
