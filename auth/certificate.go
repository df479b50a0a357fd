package auth

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"
)

// checkCertificate checks everything about cert but who signed it and what its
// options allow: kind, principal (one of its own), validity, signature.
func checkCertificate(cert *ssh.Certificate, kind uint32, principal string, now time.Time) error {
	if cert.CertType != kind {
		return fmt.Errorf("certificate %q is of the wrong kind (user or host)", cert.KeyId)
	}
	if !slices.Contains(cert.ValidPrincipals, principal) {
		return fmt.Errorf("certificate %q does not name %q", cert.KeyId, principal)
	}
	if cert.Signature == nil || !slices.Contains(signatureAlgorithms(), cert.Signature.Format) {
		return fmt.Errorf("certificate %q is signed with an algorithm that is not taken", cert.KeyId)
	}
	options := make([]string, 0, len(cert.CriticalOptions)) // judged by others
	for name := range cert.CriticalOptions {
		options = append(options, name)
	}
	checker := ssh.CertChecker{
		SupportedCriticalOptions: options,
		Clock:                    func() time.Time { return now },
	}
	if err := checker.CheckCert(principal, cert); err != nil {
		return fmt.Errorf("certificate %q: %w", cert.KeyId, err)
	}
	return nil
}

// signatureAlgorithms returns what authorities may sign with: never SHA-1.
func signatureAlgorithms() []string { return ClientAlgorithms().PublicKeyAuths }

// certificateOptions reads what a user certificate carries. A critical option
// that is not known refuses it; an extension that is not known allows nothing.
func certificateOptions(cert *ssh.Certificate) (keyOptions, error) {
	var o keyOptions
	for name, value := range cert.CriticalOptions {
		switch name {
		case "force-command":
			o.command, o.hasCommand = value, true
		case "source-address":
			list, err := parseAddressList(value, true)
			if err != nil {
				return o, fmt.Errorf("certificate %q: source-address: %w", cert.KeyId, err)
			}
			o.from, o.hasFrom = list, true
		case "verify-required":
			o.verify = true
		default:
			return o, fmt.Errorf("certificate %q: unknown critical option %q", cert.KeyId, name)
		}
	}
	for name := range cert.Extensions {
		switch name {
		case "permit-pty":
			o.pty = true
		case "permit-port-forwarding":
			o.portForwarding = true
		case "permit-agent-forwarding":
			o.agentForwarding = true
		case "permit-X11-forwarding":
			o.x11Forwarding = true
		case "permit-user-rc":
			o.userRC = true
		case "no-touch-required":
			o.noTouch = true
		}
	}
	return o, nil
}

// hostPrincipal returns the name in cert that stands for host; wildcards are
// allowed in it.
func hostPrincipal(cert *ssh.Certificate, host string) (string, error) {
	for _, name := range cert.ValidPrincipals {
		if matchList([]string{name}, host) {
			return name, nil
		}
	}
	return "", fmt.Errorf("certificate %q is for %s, not for %q", cert.KeyId, quoteAll(cert.ValidPrincipals), host)
}

// errCritical: host certificates have no critical options.
var errCritical = errors.New("has a critical option, which no host certificate can have")
