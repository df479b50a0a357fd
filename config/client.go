package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// defaultClient is the configuration of a client that was told nothing.
func defaultClient() Client {
	return Client{
		Retries:   5,
		Verify:    "fast",
		Fsync:     "auto",
		Overwrite: "always",
		Sparse:    "auto",
		Compress:  "auto",
		Progress:  "auto",
		StateDir:  clientStateDir(),
	}
}

// LoadClient reads flags, TRANSFER_* variables and the file at path ("": no
// file; see FindClient), in this order of precedence. Its error is Faults.
//
// Relative file names are relative to the file that names them, else to the
// working directory.
func LoadClient(path string, flags ClientFlags) (Client, error) {
	c, _, err := loadClient(path, flags)
	return c, err
}

func loadClient(path string, flags ClientFlags) (Client, *loading, error) {
	c := defaultClient()
	l := load(&c, "TRANSFER", path, flags)
	c.Warnings = l.warnings
	if err := l.finish(c.validate()); err != nil {
		return Client{}, l, err
	}
	return c, l, nil
}

// validate says everything that is wrong with values that have the right type.
func (c *Client) validate() []problem {
	var ps []problem
	add := func(key, format string, a ...any) {
		ps = append(ps, problem{key, fmt.Sprintf(format, a...)})
	}
	for _, choice := range []struct {
		key, value string
		choices    []string
	}{
		{"verify", c.Verify, []string{"fast", "full"}},
		{"fsync", c.Fsync, []string{"auto", "always", "off"}},
		{"overwrite", c.Overwrite, []string{"always", "never", "newer"}},
		{"sparse", c.Sparse, []string{"auto", "off"}},
		{"compress", c.Compress, []string{"auto", "zstd", "off"}},
		{"progress", c.Progress, []string{"auto", "bar", "plain", "none"}},
		{"host_key_check", c.HostKeyCheck, []string{"strict", "accept-new", "ask", "off"}},
	} {
		if choice.value == "" && choice.key == "host_key_check" {
			continue // the default: it depends on the terminal and on ssh_config
		}
		if err := oneOf(choice.value, choice.choices...); err != nil {
			add(choice.key, "%v", err)
		}
	}
	if c.Streams < 0 {
		add("streams", "%d is negative; write 0 to let it adapt", c.Streams)
	}
	if c.Retries < 0 {
		add("retries", "%d is negative; write 0 to try only once", c.Retries)
	}
	if c.StateDir == "" {
		add("state_dir", "no home directory to keep it in; set HOME, or state_dir to a directory")
	}
	if err := checkTransport(c.Connection.Transport); err != nil {
		add("transport", "%v", err)
	}
	for i, h := range c.Hosts {
		ps = append(ps, h.check(fmt.Sprintf("hosts[%d].", i), c.Hosts[:i])...)
	}
	return ps
}

func (h Host) check(path string, earlier []Host) []problem {
	var ps []problem
	add := func(key, format string, a ...any) {
		ps = append(ps, problem{path + key, fmt.Sprintf(format, a...)})
	}
	switch {
	case h.Name == "":
		add("name", "every host needs one, as you type it before the colon")
	case strings.ContainsFunc(h.Name, badInName) || strings.ContainsAny(h.Name, "@:"):
		add("name", "%q has a space, a slash, @ or : in it; write the name alone, user and port have keys of their own", h.Name)
	}
	if j := slices.IndexFunc(earlier, func(o Host) bool { return strings.EqualFold(o.Name, h.Name) }); j >= 0 && h.Name != "" {
		add("name", "%q is hosts[%d] already; put both into one entry", h.Name, j)
	}
	if strings.ContainsFunc(h.Address, badInName) || strings.Contains(h.Address, "@") {
		add("address", "%q is no host name or IP address; user and port have keys of their own", h.Address)
	}
	if err := checkTransport(h.Transport); err != nil {
		add("transport", "%v", err)
	}
	if strings.ContainsAny(h.RemoteCommand, "\n\x00") {
		add("remote_command", "%q has a line end in it; write one command, as a shell takes it", h.RemoteCommand)
	}
	return ps
}

// checkPort is for ports that are said; 0 in a struct says nothing.
func checkPort(port int) error {
	if port < 1 || port > 65535 {
		return portError(port)
	}
	return nil
}

func portError(given any) error {
	return fmt.Errorf("%v is no port; write a number from 1 to 65535", given)
}

// parse reads what a flag or a variable says for the key.
func (f field) parse(text string) (any, error) {
	v, err := parseText(f.typ, text)
	n, isInt := v.(int)
	switch {
	case f.port && err != nil:
		return nil, portError(strconv.Quote(text))
	case f.port && isInt:
		return n, checkPort(n)
	}
	return v, err
}

// checkTransport knows the roads that a copy may take; "" says nothing.
func checkTransport(name string) error {
	if name == "" {
		return nil
	}
	return oneOf(name, "auto", "tcp", "ssh", "sftp")
}
