// Package transport connects the client to servers: it parses targets, finds
// their settings, dials, checks host keys, logs in, and keeps the connections.
// It never moves a file itself: that is the business of the tree it hands out.
package transport

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"time"

	"transferd/auth"
	"transferd/internal/tree"
)

// Options are the settings of all connections of one run. The zero value
// connects as ssh does, asking nobody.
type Options struct {
	Port         int           // -P; 0: from hosts, ssh_config, else 22; with tcp from hosts, else 2023
	Identities   []string      // -i, tried first, in this order
	SSHConfig    string        // -F: a file, "none", or "" for ~/.ssh/config and /etc/ssh/ssh_config
	Jump         string        // -J: [user@]host[:port], several separated by commas; "none" overrides ssh_config
	SSHOptions   []string      // -o KEY=VALUE, in ssh_config's words; the first of a key wins
	IPv4, IPv6   bool          // -4, -6
	KnownHosts   string        // --known-hosts: instead of ssh's own files
	HostKeyCheck string        // strict, accept-new, ask or off; "": ask where Prompt is there, else strict
	Transport    string        // auto, tcp, ssh or sftp; "": what Hosts says, else auto
	Timeout      time.Duration // for each step of a connection; 0: ConnectTimeout, else 30 s
	Streams      int           // connections or channels to one server; 0: adapt
	Bandwidth    int64         // bytes a second on the wire, each way, over all connections; 0: no limit
	Compress     string        // auto, zstd or off; "": auto. SFTP does not compress
	Ciphers      string        // -c: a list separated by commas, in order of preference

	Hosts    []Host        // the config file's hosts, the first of a name wins
	Journals tree.Journals // what is durable of uploads over SFTP; nil: they do not resume
	Prompt   Prompter      // nil: nobody is asked
	Stderr   io.Writer     // where a server's banner goes, escaped; nil: nowhere
	Log      *slog.Logger  // nil: discarded
}

// Check reports, as an error that wraps ErrUsage, everything in o that is wrong
// whatever the target.
func (o Options) Check() error {
	var errs []error
	if o.Port < 0 || o.Port > 65535 {
		errs = append(errs, usage("-P %d is not a port, a number from 1 to 65535", o.Port))
	}
	if o.IPv4 && o.IPv6 {
		errs = append(errs, usage("-4 and -6 exclude each other: leave out one"))
	}
	if o.Streams < 0 {
		errs = append(errs, usage("--streams %d is less than 0, which adapts by itself", o.Streams))
	}
	if o.Bandwidth < 0 {
		errs = append(errs, usage("--bwlimit %d is less than 0, which is no limit", o.Bandwidth))
	}
	if _, err := compression(o.Compress); err != nil {
		errs = append(errs, err)
	}
	if o.Timeout < 0 {
		errs = append(errs, usage("--timeout %v is negative; leave it out for 30s", o.Timeout))
	}
	if o.HostKeyCheck != "" {
		if _, err := auth.ParsePolicy(o.HostKeyCheck); err != nil {
			errs = append(errs, usage("--host-key-check: %v", err))
		}
	}
	if o.Ciphers != "" {
		if _, err := auth.SelectCiphers(o.Ciphers); err != nil {
			errs = append(errs, usage("-c: %v", err))
		}
	}
	if o.Jump != "" && !strings.EqualFold(o.Jump, "none") {
		for hop := range strings.SplitSeq(o.Jump, ",") {
			if _, err := parseHop(strings.TrimSpace(hop)); err != nil {
				errs = append(errs, usage("-J: %v", err))
			}
		}
	}
	for _, option := range o.SSHOptions {
		if _, _, err := parseOption(option); err != nil {
			errs = append(errs, err)
		}
	}
	if _, err := parseWay(o.Transport); err != nil {
		errs = append(errs, usage("--transport: %v", err))
	}
	return errors.Join(errs...)
}

// A Host is one entry of the config file's hosts list.
type Host struct {
	Name       string // what targets call it
	Address    string // "": the name itself, or what ssh_config says
	User       string
	Port       int      // of SSH
	TCPPort    int      // of our own protocol; 0: 2023
	Jump       string   // as Options.Jump
	Transport  string   // as Options.Transport, of targets that are no URL
	Identities []string // key files; ~ is the home

	// RemoteCommand starts our program there, as a shell takes it; "": transferd.
	RemoteCommand string
}

// A Prompter asks the person at the terminal. Its methods are called by one
// goroutine at a time, and return ctx's error when ctx ends. The texts are
// already escaped for a terminal.
type Prompter interface {
	// Passphrase asks for a key's passphrase. An empty answer gives the key up.
	Passphrase(ctx context.Context, prompt string) ([]byte, error)

	// Answer asks for a password, or what a server's keyboard-interactive login
	// wants to know; echo says whether the answer may be seen.
	Answer(ctx context.Context, prompt string, echo bool) (string, error)

	// Confirm asks a question whose answer is a word, such as "yes".
	Confirm(ctx context.Context, question string) (string, error)
}
