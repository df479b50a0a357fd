package auth

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// maxPattern bounds the length of a pattern, as OpenSSH's lists are bounded.
const maxPattern = 1024

// matchWildcard reports whether s matches pattern, in which * is any text and ?
// any one byte. It never needs more than len(s) × len(pattern) steps.
func matchWildcard(pattern, s string) bool {
	p, i := 0, 0
	star, resume := -1, 0 // where the last * was, and from where s may match behind it
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, resume = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			resume++
			p, i = star+1, resume
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// matchList reports whether s matches one of the patterns and no negated one.
// Upper and lower case are alike.
func matchList(patterns []string, s string) bool {
	s, found := strings.ToLower(s), false
	for _, p := range patterns {
		p, negated := strings.CutPrefix(strings.ToLower(p), "!")
		if p == "" || !matchWildcard(p, s) {
			continue
		}
		if negated {
			return false
		}
		found = true
	}
	return found
}

// An addressList is the value of from= or of a certificate's source-address:
// addresses, networks and, in from=, patterns, which may be negated.
type addressList []addressPattern

type addressPattern struct {
	negated bool
	network netip.Prefix // invalid: a pattern
	pattern string
}

var errEmptyEntry = errors.New("an empty entry")

// parseAddressList reads a list separated by commas. With networksOnly, as for
// certificates, only addresses and networks are allowed, and no negation.
func parseAddressList(s string, networksOnly bool) (addressList, error) {
	var list addressList
	for entry := range strings.SplitSeq(s, ",") {
		var a addressPattern
		text := strings.Trim(entry, " \t")
		if !networksOnly {
			text, a.negated = strings.CutPrefix(text, "!")
		}
		if text == "" {
			return nil, fmt.Errorf("%q: %w", s, errEmptyEntry)
		}
		if len(text) > maxPattern {
			return nil, fmt.Errorf("an entry of %d bytes", len(text))
		}
		network, err := parseNetwork(text)
		switch {
		case err == nil:
			a.network = network
		case networksOnly || strings.Contains(text, "/"):
			// A network with bits set behind its mask is a slip of the pen that
			// could mean either; OpenSSH refuses it as well.
			return nil, fmt.Errorf("%q: %w", text, err)
		default:
			a.pattern = text
		}
		list = append(list, a)
	}
	return list, nil
}

func parseNetwork(text string) (netip.Prefix, error) {
	if !strings.Contains(text, "/") {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return netip.Prefix{}, err
		}
		addr = addr.Unmap().WithZone("")
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	network, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	if network.Masked() != network {
		return netip.Prefix{}, errors.New("address and mask do not fit")
	}
	return network, nil
}

// matches reports whether addr is in the list and in no negated entry of it.
// Patterns match the text of the address: names are not looked up, because
// whoever controls an address controls its name too.
func (l addressList) matches(addr netip.Addr) bool {
	addr = addr.Unmap()
	text, plain, found := strings.ToLower(addr.String()), addr.WithZone(""), false
	for _, a := range l {
		hit := a.network.IsValid() && a.network.Contains(plain) ||
			!a.network.IsValid() && matchWildcard(strings.ToLower(a.pattern), text)
		if !hit {
			continue
		}
		if a.negated {
			return false
		}
		found = true
	}
	return found
}
