package transport

import (
	"cmp"
	"slices"
	"strings"

	"transferd/internal/transport/native"
)

// A way is how a server is talked to: what --transport says.
type way string

// The ways. On an SSH connection auto takes the best that the server offers.
const (
	wayAuto way = "auto"
	wayTCP  way = "tcp"  // our protocol over TLS, on a port of its own
	waySSH  way = "ssh"  // our protocol on SSH channels alone
	waySFTP way = "sftp" // SFTP
)

func parseWay(name string) (way, error) {
	switch w := way(cmp.Or(name, string(wayAuto))); w {
	case wayAuto, wayTCP, waySSH, waySFTP:
		return w, nil
	}
	return "", usage("transport %q is not known; use auto, tcp, ssh or sftp", name)
}

// ways are those that a target can be reached by, written in a scheme.
func (s Scheme) ways() []way {
	switch s {
	case SchemeSSH:
		return []way{wayAuto, waySSH, waySFTP}
	case SchemeSFTP:
		return []way{wayAuto, waySFTP}
	case SchemeTCP:
		return []way{wayAuto, wayTCP}
	case SchemeLocal, SchemeStdio, SchemeHostPath:
	}
	return []way{wayAuto, wayTCP, waySSH, waySFTP}
}

// wayTo chooses between what a person asks for all targets (Options.Transport),
// what the hosts entry says, and what t itself says. An entry that does not fit
// a URL does not count: whoever writes one has chosen.
func wayTo(t Target, asked, entry string) (way, error) {
	w, err := parseWay(asked)
	if err != nil {
		return "", usage("--transport: %v", err)
	}
	fit := t.Scheme.ways()
	if !slices.Contains(fit, w) {
		names := make([]string, len(fit))
		for i, f := range fit {
			names[i] = string(f)
		}
		last := len(names) - 1
		return "", usage("%s cannot go by --transport=%s: %s:// takes %s; with host:path any will do",
			t.Raw, w, t.Scheme, strings.Join(names[:last], ", ")+" or "+names[last])
	}
	switch t.Scheme {
	case SchemeTCP:
		return wayTCP, nil
	case SchemeSFTP:
		return waySFTP, nil
	case SchemeLocal, SchemeStdio, SchemeHostPath, SchemeSSH:
	}
	if asked != "" {
		return w, nil
	}
	if w, err = parseWay(entry); err != nil {
		return "", usage("hosts entry %s: %v", t.Host, err)
	}
	if !slices.Contains(fit, w) {
		return wayAuto, nil
	}
	return w, nil
}

func compression(name string) (native.Compression, error) {
	switch name {
	case "", "auto":
		return native.CompressAuto, nil
	case "zstd":
		return native.CompressAlways, nil
	case "off":
		return native.CompressOff, nil
	}
	return 0, usage("--compress %q is not known; use auto, zstd or off", name)
}
