package transport

import (
	"strings"
)

// optionKeys are the keywords that -o takes, as people write them. The others
// of ssh_config are about things that no copy does.
func optionKeys() []string {
	return []string{
		"AddressFamily", "BatchMode", "CertificateFile", "Ciphers", "ConnectTimeout", "GlobalKnownHostsFile",
		"HashKnownHosts", "HostKeyAlias", "HostName", "IdentitiesOnly", "IdentityAgent", "IdentityFile",
		"KbdInteractiveAuthentication", "PasswordAuthentication", "Port", "ProxyJump", "PubkeyAuthentication",
		"ServerAliveCountMax", "ServerAliveInterval", "StrictHostKeyChecking", "User", "UserKnownHostsFile",
	}
}

// parseOption reads the argument of -o: KEY=VALUE, or KEY VALUE.
func parseOption(option string) (key, text string, err error) {
	option = strings.TrimSpace(option)
	end := strings.IndexAny(option, "= \t")
	if end <= 0 {
		return "", "", usage("-o %q: write KEY=VALUE, such as -o ConnectTimeout=10", option)
	}
	key = option[:end]
	text = strings.TrimLeft(option[end:], " \t")
	text = strings.TrimSpace(strings.TrimPrefix(text, "="))
	if text == "" {
		return "", "", usage("-o %s has no value: write %s=VALUE", key, key)
	}
	if len(text) >= 2 && text[0] == '"' && text[len(text)-1] == '"' && strings.Count(text, `"`) == 2 {
		text = text[1 : len(text)-1]
	}
	for _, known := range optionKeys() {
		if strings.EqualFold(key, known) {
			return key, text, nil
		}
	}
	return "", "", usage("-o %s is not supported; there are %s", key, strings.Join(optionKeys(), ", "))
}
