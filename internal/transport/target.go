package transport

import (
	"net"
	"net/netip"
	"net/url"
	"runtime"
	"strconv"
	"strings"
)

// A Scheme says how a target was written, and with that what it can mean.
type Scheme uint8

// The ways to write a target.
const (
	SchemeLocal    Scheme = iota // a path on this machine
	SchemeStdio                  // "-"
	SchemeHostPath               // [user@]host:path
	SchemeSSH                    // ssh://
	SchemeSFTP                   // sftp://
	SchemeTCP                    // tcp://
)

// String returns the scheme's name: "local", "stdio", "host:path", "ssh",
// "sftp" or "tcp".
func (s Scheme) String() string {
	switch s {
	case SchemeLocal:
		return "local"
	case SchemeStdio:
		return "stdio"
	case SchemeHostPath:
		return "host:path"
	case SchemeSSH:
		return "ssh"
	case SchemeSFTP:
		return "sftp"
	case SchemeTCP:
		return "tcp"
	}
	return "scheme " + strconv.Itoa(int(s))
}

// A Target is what a person wrote as a source or destination. The zero value
// is the local path "".
type Target struct {
	Scheme Scheme
	User   string // "": the settings decide
	Host   string // name, alias or address without brackets, with its zone
	Port   int    // 0: the settings decide; only the URL forms have one
	Path   string // what Remote.Resolve takes; of a URL percent-decoded, "/~/x" as "~/x"
	Raw    string // the text that was parsed
}

// Remote reports whether the target is on a server.
func (t Target) Remote() bool { return t.Scheme >= SchemeHostPath }

// URL reports whether the target was written as a URL, so that the first slash
// of its path stands for the root that the server shows.
func (t Target) URL() bool { return t.Scheme >= SchemeSSH }

// String returns text that ParseTarget reads as t (but for Raw).
func (t Target) String() string {
	switch t.Scheme {
	case SchemeStdio:
		return "-"
	case SchemeLocal:
		if again, err := ParseTarget(t.Path); err != nil || again.Scheme != SchemeLocal {
			return "./" + t.Path
		}
		return t.Path
	case SchemeHostPath:
		var b strings.Builder
		if t.User != "" {
			b.WriteString(t.User + "@")
		}
		if strings.ContainsAny(t.Host, ":") {
			b.WriteString("[" + t.Host + "]")
		} else {
			b.WriteString(t.Host)
		}
		b.WriteString(":" + t.Path)
		return b.String()
	case SchemeSSH, SchemeSFTP, SchemeTCP:
		var b strings.Builder
		b.WriteString(t.Scheme.String() + "://")
		if t.User != "" {
			b.WriteString(url.PathEscape(t.User) + "@")
		}
		host := strings.ReplaceAll(t.Host, "%", "%25")
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		b.WriteString(host)
		if t.Port != 0 {
			b.WriteString(":" + strconv.Itoa(t.Port))
		}
		path := t.Path
		if path == "~" || strings.HasPrefix(path, "~/") {
			path = "/" + path
		}
		for i, elem := range strings.Split(path, "/") {
			if i > 0 {
				b.WriteByte('/')
			}
			b.WriteString(url.PathEscape(elem))
		}
		return b.String()
	}
	return t.Path
}

// ParseTarget reads a source or destination as a person writes it. As in scp a
// name with a colon before its first slash is remote, and "./a:b" is local; on
// Windows a drive letter does not make a name remote. Every error wraps
// ErrUsage and says what would be right.
func ParseTarget(s string) (Target, error) {
	return parseTarget(s, runtime.GOOS == "windows")
}

func parseTarget(s string, windows bool) (Target, error) {
	switch {
	case s == "":
		return Target{}, usage(`a target is empty: write a path, host:path or ssh://host/path ("." is this directory)`)
	case strings.IndexByte(s, 0) >= 0:
		return Target{}, usage("target %q holds a NUL byte, which no path can", s)
	case s == "-":
		return Target{Scheme: SchemeStdio, Raw: s}, nil
	}
	if scheme, rest, ok := cutScheme(s); ok {
		return parseURL(s, scheme, rest)
	}
	colon := hostColon(s, windows)
	if colon < 0 {
		return Target{Scheme: SchemeLocal, Path: s, Raw: s}, nil
	}
	t := Target{Scheme: SchemeHostPath, Path: s[colon+1:], Raw: s}
	host := s[:colon]
	if at := strings.LastIndexByte(host, '@'); at >= 0 {
		t.User, host = host[:at], host[at+1:]
		if t.User == "" {
			return Target{}, usage("target %q has no user name before its @: leave out the @, or write user@host:path", s)
		}
	}
	bare, bracketed := unbracket(host)
	t.Host = bare
	if addr := s[:strings.LastIndexByte(s, ':')]; !bracketed && looksLikeIPv6(addr[strings.LastIndexByte(addr, '@')+1:]) {
		return Target{}, usage("target %q: an IPv6 address goes in brackets: [%s]:path", s, addr[strings.LastIndexByte(addr, '@')+1:])
	}
	return t, checkPlace(t, bracketed)
}

// cutScheme splits a URL at "://".
func cutScheme(s string) (scheme, rest string, ok bool) {
	scheme, rest, ok = strings.Cut(s, "://")
	if !ok || scheme == "" {
		return "", "", false
	}
	for i, r := range []byte(scheme) {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (i == 0 || r != '+' && r != '-' && r != '.' && (r < '0' || r > '9')) {
			return "", "", false
		}
	}
	return strings.ToLower(scheme), rest, true
}

// hostColon returns where the colon between host and path is, -1 in a local
// name. It follows scp: a colon counts before the first slash only, not in
// first place, and brackets hide the colons of an IPv6 address.
func hostColon(s string, windows bool) int {
	if s[0] == ':' || windows && driveLetter(s) {
		return -1
	}
	bracket := s[0] == '['
	for i := range len(s) {
		switch c := s[i]; {
		case c == '@' && strings.HasPrefix(s[i+1:], "["):
			bracket = true
		case c == ']' && bracket && strings.HasPrefix(s[i+1:], ":"):
			return i + 1
		case c == ':' && !bracket:
			return i
		case c == '/' || windows && c == '\\':
			return -1
		}
	}
	return -1
}

func driveLetter(s string) bool {
	return len(s) >= 2 && s[1] == ':' && (s[0]|0x20 >= 'a' && s[0]|0x20 <= 'z')
}

func unbracket(host string) (string, bool) {
	if len(host) >= 2 && host[0] == '[' && host[len(host)-1] == ']' {
		return host[1 : len(host)-1], true
	}
	return host, false
}

// looksLikeIPv6 reports whether s is an IPv6 address that is surely not meant
// as a host name and a path ("a:b" is no address; "fe80::1" is).
func looksLikeIPv6(s string) bool {
	addr, err := netip.ParseAddr(s)
	return err == nil && addr.Is6()
}

func parseURL(raw, scheme, rest string) (Target, error) {
	t := Target{Raw: raw}
	switch scheme {
	case "ssh":
		t.Scheme = SchemeSSH
	case "sftp":
		t.Scheme = SchemeSFTP
	case "tcp":
		t.Scheme = SchemeTCP
	case "scp":
		return Target{}, usage("target %q: scp:// is not known; use ssh://%s, where the first slash is the root that the server shows, and /~/ the home", raw, rest)
	default:
		return Target{}, usage("target %q: the scheme %s:// is not known; use ssh://, sftp:// or tcp://, or write ./%s for a local name", raw, scheme, raw)
	}
	place, path := rest, ""
	if slash := strings.IndexByte(rest, '/'); slash >= 0 {
		place, path = rest[:slash], rest[slash:]
	}
	if at := strings.LastIndexByte(place, '@'); at >= 0 {
		user := place[:at]
		place = place[at+1:]
		if strings.Contains(user, ":") {
			return Target{}, usage("a target of %s holds a password, which everybody on this machine could read: leave it out and you are asked", place)
		}
		var err error
		if t.User, err = unescape(raw, user); err != nil {
			return Target{}, err
		}
		if t.User == "" {
			return Target{}, usage("target %q has no user name before its @: leave out the @, or write user@host", raw)
		}
	}
	host, port, err := splitPort(raw, place)
	if err != nil {
		return Target{}, err
	}
	t.Port = port
	bare, bracketed := unbracket(host)
	switch {
	case bracketed:
		// RFC 6874 writes a zone as %25eth0; ssh takes %eth0 as well.
		t.Host = strings.Replace(bare, "%25", "%", 1)
	default:
		if t.Host, err = unescape(raw, bare); err != nil {
			return Target{}, err
		}
	}
	if t.Path, err = unescape(raw, path); err != nil {
		return Target{}, err
	}
	if t.Path == "/~" || strings.HasPrefix(t.Path, "/~/") {
		t.Path = t.Path[1:]
	}
	return t, checkPlace(t, bracketed)
}

// splitPort cuts the port off the host of a URL.
func splitPort(raw, place string) (host string, port int, err error) {
	end := strings.LastIndexByte(place, ']') + 1
	colon := strings.IndexByte(place[end:], ':')
	if colon < 0 {
		return place, 0, nil
	}
	host, digits := place[:end+colon], place[end+colon+1:]
	if strings.Contains(digits, ":") {
		return "", 0, usage("target %q: an IPv6 address goes in brackets: //[%s]/path", raw, strings.Trim(place, "[]"))
	}
	port, err = ParsePort(digits)
	if err != nil {
		return "", 0, usage("target %q: %v", raw, err)
	}
	return host, port, nil
}

// ParsePort reads a TCP port, 1 to 65535.
func ParsePort(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || strings.HasPrefix(s, "+") {
		return 0, usage("port %q is not a number from 1 to 65535", s)
	}
	return int(n), nil
}

func unescape(raw, s string) (string, error) {
	u, err := url.PathUnescape(s)
	if err != nil {
		return "", usage("target %q: a %% is followed by two hex digits in a URL; %%25 is the percent sign itself", raw)
	}
	if strings.IndexByte(u, 0) >= 0 {
		return "", usage("target %q holds a NUL byte, which no path can", raw)
	}
	return u, nil
}

// checkPlace says what is wrong with the user and host of t.
func checkPlace(t Target, bracketed bool) error {
	switch {
	case t.Host == "":
		return usage("target %q has no host; write host:path or ssh://host/path", t.Raw)
	case badHost(t.Host, bracketed):
		return usage("target %q: %q is no host name or address", t.Raw, t.Host)
	case badUser(t.User):
		return usage("target %q: %q is no user name", t.Raw, t.User)
	}
	return nil
}

// badHost reports a name that can be none, so that typing errors are told
// before anything is dialled and no name is mistaken for a flag.
func badHost(host string, bracketed bool) bool {
	if host[0] == '-' || strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return true
	}
	if strings.ContainsAny(host, "/\\[]@,*?!\"'`$&|;<>()") {
		return true
	}
	if strings.Contains(host, ":") {
		return !looksLikeIPv6(host)
	}
	if zone := strings.IndexByte(host, '%'); zone >= 0 {
		return !bracketed || !looksLikeIPv6(host)
	}
	return false
}

func badUser(user string) bool {
	return strings.HasPrefix(user, "-") || strings.ContainsAny(user, "[]:/") || strings.ContainsFunc(user, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// joinHostPort writes an address for people and for known_hosts.
func joinHostPort(host string, port int) string {
	return net.JoinHostPort(host, strconv.Itoa(port))
}
