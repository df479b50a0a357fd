package auth

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// keyOptions are the options before a key in authorized_keys (sshd(8)), or what
// a certificate carries.
type keyOptions struct {
	authority  bool
	principals []string // nil: the user's name
	from       addressList
	hasFrom    bool
	expires    []expiry
	command    string
	hasCommand bool
	env        []string
	open       []string
	listen     []string
	tunnel     string

	pty, portForwarding, agentForwarding, x11Forwarding, userRC bool
	noTouch, verify                                             bool
}

// everything is what a key may that has no options.
func everything() keyOptions {
	return keyOptions{pty: true, portForwarding: true, agentForwarding: true, x11Forwarding: true, userRC: true}
}

// cutOptions splits a line of authorized_keys behind its options, which end at
// the first white space outside of quotes.
func cutOptions(line string) (options, rest string, err error) {
	quoted := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && i+1 < len(line) && line[i+1] == '"':
			i++
		case c == '"':
			quoted = !quoted
		case (c == ' ' || c == '\t') && !quoted:
			return line[:i], strings.TrimLeft(line[i:], " \t"), nil
		}
	}
	if quoted {
		return "", "", errors.New("a quote that does not end")
	}
	return line, "", nil
}

// parseOptions reads the options of a key. One that is not known refuses the
// key: it may have been meant to bind it.
func parseOptions(text string) (keyOptions, error) {
	o := everything()
	rest := text
	for {
		name, value, hasValue, tail, err := cutOption(rest)
		if err != nil {
			return o, err
		}
		if hasValue {
			err = o.setValue(strings.ToLower(name), value)
		} else {
			err = o.setFlag(strings.ToLower(name))
		}
		if err != nil {
			return o, fmt.Errorf("option %s: %w", name, err)
		}
		if tail == "" {
			return o, nil
		}
		if tail[0] != ',' || len(tail) == 1 {
			return o, fmt.Errorf("option %s: no comma and further option behind it", name)
		}
		rest = tail[1:]
	}
}

// cutOption takes name or name="value" off text. In a value only \" is an
// escape.
func cutOption(text string) (name, value string, hasValue bool, rest string, err error) {
	i := strings.IndexAny(text, ",=\"")
	if i < 0 {
		return text, "", false, "", nil
	}
	name, rest = text[:i], text[i:]
	if rest[0] != '=' {
		return name, "", false, rest, nil
	}
	if rest = rest[1:]; !strings.HasPrefix(rest, `"`) {
		return name, "", true, "", fmt.Errorf("option %s: a value without quotes", name)
	}
	var b strings.Builder
	for i := 1; i < len(rest); i++ {
		switch {
		case rest[i] == '\\' && i+1 < len(rest) && rest[i+1] == '"':
			i++
			b.WriteByte('"')
		case rest[i] == '"':
			return name, b.String(), true, rest[i+1:], nil
		default:
			b.WriteByte(rest[i])
		}
	}
	return name, "", true, "", fmt.Errorf("option %s: a quote that does not end", name)
}

var (
	errUnknownOption = errors.New("not known, so the key is not used")
	errTwice         = errors.New("given twice")
)

func (o *keyOptions) setFlag(name string) error {
	if name == "restrict" {
		o.pty, o.portForwarding, o.agentForwarding, o.x11Forwarding, o.userRC = false, false, false, false, false
		return nil
	}
	switch name {
	case "cert-authority":
		o.authority = true
		return nil
	case "verify-required":
		o.verify = true
		return nil
	case "no-touch-required":
		o.noTouch = true
		return nil
	}
	plain, no := strings.CutPrefix(name, "no-")
	flags := map[string]*bool{
		"pty":              &o.pty,
		"port-forwarding":  &o.portForwarding,
		"agent-forwarding": &o.agentForwarding,
		"x11-forwarding":   &o.x11Forwarding,
		"user-rc":          &o.userRC,
	}
	flag, ok := flags[plain]
	if !ok {
		return errUnknownOption
	}
	*flag = !no
	return nil
}

func (o *keyOptions) setValue(name, value string) error {
	switch name {
	case "from":
		if o.hasFrom {
			return errTwice
		}
		list, err := parseAddressList(value, false)
		o.from, o.hasFrom = list, true
		return err
	case "command":
		if o.hasCommand {
			return errTwice
		}
		o.command, o.hasCommand = value, true
		return nil
	case "principals":
		if o.principals != nil {
			return errTwice
		}
		o.principals = strings.Split(value, ",")
		return nil
	case "expiry-time":
		e, err := parseExpiry(value)
		o.expires = append(o.expires, e)
		return err
	case "environment":
		return o.addEnvironment(value)
	case "permitopen":
		o.open = append(o.open, value)
		return checkHostPort(value, true)
	case "permitlisten":
		o.listen = append(o.listen, value)
		return checkHostPort(value, false)
	case "tunnel":
		if o.tunnel != "" {
			return errTwice
		}
		if n, err := strconv.ParseUint(value, 10, 31); value != "any" && (err != nil || strconv.FormatUint(n, 10) != value) {
			return fmt.Errorf("%q is no device number", value)
		}
		o.tunnel = value
		return nil
	}
	return errUnknownOption
}

// addEnvironment takes NAME=value; of several for one name the first counts.
func (o *keyOptions) addEnvironment(value string) error {
	name, _, ok := strings.Cut(value, "=")
	if !ok || name == "" || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		return fmt.Errorf("%q is not NAME=value", value)
	}
	for _, have := range o.env {
		if strings.HasPrefix(have, name+"=") {
			return nil
		}
	}
	o.env = append(o.env, value)
	return nil
}

// checkHostPort checks host:port, [host]:port or, if the host may lack, a port.
func checkHostPort(value string, needHost bool) error {
	host, port := "", value
	if i := strings.LastIndexByte(value, ':'); i >= 0 {
		host, port = value[:i], value[i+1:]
	} else if needHost {
		return fmt.Errorf("%q is not host:port", value)
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		if host, ok = strings.CutSuffix(inner, "]"); !ok {
			return fmt.Errorf("%q is not [host]:port", value)
		}
	}
	if needHost && host == "" {
		return fmt.Errorf("%q is not host:port", value)
	}
	if n, err := strconv.ParseUint(port, 10, 16); port != "*" && (err != nil || n == 0) {
		return fmt.Errorf("%q is no port", port)
	}
	return nil
}

// An expiry is a moment that is local time unless it says UTC. Which local time
// that is, the clock knows that it is compared with.
type expiry struct {
	year, day, hour, minute, second int
	month                           time.Month
	utc                             bool
}

// parseExpiry reads YYYYMMDD[HHMM[SS]][Z].
func parseExpiry(s string) (expiry, error) {
	digits, utc := strings.CutSuffix(s, "Z")
	layouts := map[int]string{8: "20060102", 12: "200601021504", 14: "20060102150405"}
	t, err := time.Parse(layouts[len(digits)], digits)
	if layouts[len(digits)] == "" || err != nil {
		return expiry{}, fmt.Errorf("%q is not YYYYMMDD[HHMM[SS]][Z]", s)
	}
	hour, minute, second := t.Clock()
	return expiry{t.Year(), t.Day(), hour, minute, second, t.Month(), utc}, nil
}

// in returns the moment, told by a clock that shows local.
func (e expiry) in(local *time.Location) time.Time {
	if e.utc {
		local = time.UTC
	}
	return time.Date(e.year, e.month, e.day, e.hour, e.minute, e.second, 0, local)
}
