package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// validate says everything that is wrong with values that have the right type.
func (k *serverKeys) validate() []problem {
	var ps []problem
	add := func(key, format string, a ...any) {
		ps = append(ps, problem{key, fmt.Sprintf(format, a...)})
	}
	if len(k.SSH.Listen) == 0 {
		add("ssh.listen", `no address to listen on; write ["%s"], or leave the key out for that`, ":2022")
	}
	for i, address := range k.SSH.Listen {
		if err := checkListen(address, "2022", k.SSH.Listen[:i]); err != nil {
			add(fmt.Sprintf("ssh.listen[%d]", i), "%v", err)
		}
	}
	for i, address := range k.TCP.Listen {
		earlier := k.TCP.Listen[:i]
		if !k.TCP.Implied {
			earlier = append(slices.Clone(earlier), k.SSH.Listen...)
		}
		if err := checkListen(address, tcpPort, earlier); err != nil && !k.TCP.Implied {
			add(fmt.Sprintf("tcp.listen[%d]", i), "%v", err)
		}
	}
	for i, file := range k.SSH.HostKeys {
		if err := checkFile(file); err != nil {
			add(fmt.Sprintf("ssh.host_keys[%d]", i), "%v; name a private key, or leave the list empty to have one made", err)
		}
	}
	if info, err := os.Stat(k.StateDir); k.StateDir == "" {
		add("state_dir", "no home directory to keep it in; set HOME, or state_dir to a directory")
	} else if err == nil && !info.IsDir() {
		add("state_dir", "%s is no directory; name one, it is made if missing", k.StateDir)
	}
	for _, count := range []struct {
		key string
		n   int
	}{{"connections", k.Limits.Connections}, {"per_source", k.Limits.PerSource}, {"handshakes", k.Limits.Handshakes}} {
		if count.n < 0 {
			add("limits."+count.key, "%d is negative; write 0 for no limit", count.n)
		}
	}
	if err := oneOf(k.Log.Level, "debug", "info", "warn", "error"); err != nil {
		add("log.level", "%v", err)
	}
	if err := oneOf(k.Log.Format, "text", "json"); err != nil {
		add("log.format", "%v", err)
	}
	for i, u := range k.Users {
		key := func(name string) string { return fmt.Sprintf("users[%d].%s", i, name) }
		if k.single {
			key = shortKey
		}
		ps = append(ps, checkUser(u, key, k.Users[:i], k.Users)...)
	}
	return ps
}

// shortKey is the flag's key for a key of the one user that came from flags.
func shortKey(name string) string {
	if name == "authorized_keys_file" {
		return "authorized_keys"
	}
	return "root"
}

// checkUser says what is wrong with u, which comes after the users earlier.
func checkUser(u User, key func(name string) string, earlier, all []User) []problem {
	var ps []problem
	add := func(name, format string, a ...any) {
		ps = append(ps, problem{key(name), fmt.Sprintf(format, a...)})
	}
	if u.Name == "" {
		add("name", "every user needs one")
	} else if strings.ContainsFunc(u.Name, badInName) {
		add("name", "%q has a space, a slash or a control character in it; write it without", u.Name)
	}
	if j := slices.IndexFunc(earlier, func(o User) bool { return o.Name == u.Name }); j >= 0 && u.Name != "" {
		add("name", "%q is users[%d] already; each name stands once, with one root", u.Name, j)
	}
	if err := checkDir(u.Root); err != nil {
		add("root", "%v", err)
	}
	if u.Permissions != nil && len(u.Permissions) == 0 {
		add("permissions", "none are left; name some of %s, or remove the user", strings.Join(allPermissions(), ", "))
	}
	for j, p := range u.Permissions {
		if err := oneOf(p, allPermissions()...); err != nil {
			add(fmt.Sprintf("permissions[%d]", j), "%v", err)
		}
	}
	switch file, inline := u.AuthorizedKeysFile, u.AuthorizedKeys; {
	case file != "" && len(inline) > 0:
		add("authorized_keys_file", "cannot stand beside authorized_keys; move the keys into one of the two")
	case file == "" && len(inline) == 0:
		add("authorized_keys_file", "no key to log in with; name a file of keys, or list them in authorized_keys")
	case file != "":
		if err := checkFile(file); err != nil {
			add("authorized_keys_file", "%v; make it first, it has the form of ~/.ssh/authorized_keys", err)
		} else if err := checkKeysFile(file, all); err != nil {
			add("authorized_keys_file", "%v", err)
		}
	}
	return ps
}

// badInName keeps names to what fits on one line of a log and into user@host.
func badInName(r rune) bool {
	return unicode.IsSpace(r) || unicode.IsControl(r) || r == '/' || r == unicode.ReplacementChar
}

// checkListen says what is wrong with an address to listen on, usually at port.
func checkListen(address, usual string, earlier []string) error {
	example := fmt.Sprintf(`write host:port, such as ":%[1]s", "127.0.0.1:%[1]s" or "[::1]:%[1]s"`, usual)
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		if _, err := strconv.ParseUint(address, 10, 16); err == nil {
			return fmt.Errorf("%q has no colon; write %q", address, ":"+address)
		}
		if ip, err := netip.ParseAddr(strings.Trim(address, "[]")); err == nil {
			return fmt.Errorf("%q has no port; write %q", address, net.JoinHostPort(ip.String(), usual))
		}
		return fmt.Errorf("%q is no address; %s", address, example)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q: the port is not a number from 0 to 65535; %s", address, example)
	}
	if strings.ContainsFunc(host, badInName) {
		return fmt.Errorf("%q is no address; %s", address, example)
	}
	if port != "0" && slices.Contains(earlier, address) {
		return fmt.Errorf("%q stands there twice; remove one", address)
	}
	return nil
}

// checkDir says what is wrong with a directory that must be there.
func checkDir(dir string) error {
	if dir == "" {
		return errors.New("is missing; name the directory that the user sees")
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("%s: %w; make it first, or name another directory", dir, bare(err))
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is no directory; name one", dir)
	}
	return nil
}

// checkFile says what is wrong with a file that must be there.
func checkFile(file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return fmt.Errorf("%s: %w", file, bare(err))
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", file)
	}
	return nil
}
