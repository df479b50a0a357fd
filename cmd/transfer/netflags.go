package main

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"transferd/config"
)

// netFlags are the flags that every networked command has. What config has a
// key for is read by config, which also checks it; here it is only text.
type netFlags struct {
	config     string
	identities []string
	options    []string
	ipv4, ipv6 bool
	quiet      bool
	verbose    int
	json       bool
	batch      bool // scp's -B: nobody is asked
	ciphers    string

	// extra holds settings that came by another flag than their own.
	extra config.ClientFlags
}

// add gives cmd the flags.
func (n *netFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	addText(f, "port", "P", "PORT", "the port: of SSH (default: hosts, ssh_config, else 22; a transferd listens on 2022), or of tcp (2023)")
	f.StringArrayVarP(&n.identities, "identity", "i", nil, "a private `FILE` to log in with; repeatable")
	addText(f, "ssh-config", "F", "FILE", "instead of ~/.ssh/config; none for no file")
	addText(f, "jump", "J", "[USER@]HOST[:PORT]", "connect by way of this host; several with commas")
	f.StringArrayVarP(&n.options, "option", "o", nil, "an ssh_config setting, `KEY=VALUE`; repeatable")
	f.BoolVarP(&n.ipv4, "ipv4", "4", false, "use IPv4 only")
	f.BoolVarP(&n.ipv6, "ipv6", "6", false, "use IPv6 only")
	f.BoolVarP(&n.quiet, "quiet", "q", false, "show errors only")
	f.CountVarP(&n.verbose, "verbose", "v", "tell more; repeatable")
	addText(f, "known-hosts", "", "FILE", "host keys that are trusted (default: ssh's own files)")
	addText(f, "host-key-check", "", "HOW", "strict, accept-new, ask or off (default: ask on a terminal, else strict)")
	addText(f, "transport", "", "NAME", "auto, tcp, ssh or sftp (default auto: the best that the SSH server offers)")
	addText(f, "timeout", "", "DUR", "give up connecting after this long, such as 20s")
	f.BoolVar(&n.json, "json", false, "print events and results as JSON, one object a line")
	f.StringVar(&n.config, "config", "", "the configuration `FILE` (default: see 'transfer config path')")
	choices(cmd, "host-key-check", "strict", "accept-new", "ask", "off")
	choices(cmd, "transport", "auto", "tcp", "ssh", "sftp")
}

// choices tells a shell's completion what a flag takes.
func choices(cmd *cobra.Command, flag string, words ...string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
}

// configFlags names the flags that are keys of the client's configuration.
func configFlags() []string {
	return []string{
		"port", "identity", "ssh-config", "jump", "known-hosts", "host-key-check", "transport", "timeout",
		"bwlimit", "streams", "retries", "verify", "fsync", "overwrite", "sparse", "compress", "progress",
	}
}

// given returns the flags of cmd that were given, as config takes them.
func (n *netFlags) given(cmd *cobra.Command) config.ClientFlags {
	flags := config.ClientFlags{}
	for _, name := range configFlags() {
		f := cmd.Flags().Lookup(name)
		if f == nil || !f.Changed {
			continue
		}
		key := strings.ReplaceAll(name, "-", "_")
		if list, ok := f.Value.(pflag.SliceValue); ok {
			flags[key] = list.GetSlice()
		} else {
			flags[key] = []string{f.Value.String()}
		}
	}
	for key, values := range n.extra {
		if _, ok := flags[key]; !ok {
			flags[key] = values
		}
	}
	return flags
}

// load returns the effective settings of cmd, or everything that is wrong with
// them.
func (n *netFlags) load(cmd *cobra.Command) (config.Client, error) {
	if n.ipv4 && n.ipv6 {
		return config.Client{}, usagef("-4 and -6 do not go together; without both any address will do")
	}
	return config.LoadClient(config.FindClient(n.config), n.given(cmd))
}

// logger returns what the parts below log to: what has to be seen as plain
// sentences, and more, with all its details, if the person wants to see it.
func (n *netFlags) logger(env *environ) *slog.Logger {
	switch {
	case n.quiet:
		return slog.New(&plainLog{out: env.stderr, level: slog.LevelError})
	case n.verbose == 0:
		return slog.New(&plainLog{out: env.stderr, level: slog.LevelWarn})
	}
	level := slog.LevelInfo
	if n.verbose > 1 {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(env.stderr, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{} // the person is there and sees when
			}
			return a
		},
	}))
}

// A textFlag is a flag whose text config reads. Its name in the help says what
// is wanted.
type textFlag struct {
	text string
	kind string
}

func (t *textFlag) String() string     { return t.text }
func (t *textFlag) Set(s string) error { t.text = s; return nil }
func (t *textFlag) Type() string       { return t.kind }

func addText(f *pflag.FlagSet, name, short, kind, usage string) {
	f.VarP(&textFlag{kind: kind}, name, short, usage)
}

// A refusedFlag is one of scp's that transfer does not have: using it says what
// to do instead.
type refusedFlag struct{ letter, instead string }

func (r refusedFlag) String() string { return "" }
func (r refusedFlag) Type() string   { return "refused" }
func (r refusedFlag) Set(string) error {
	return &insteadError{fmt.Sprintf("-%s is not a flag of transfer: %s", r.letter, r.instead)}
}

// An insteadError says what to use instead of a flag.
type insteadError struct{ text string }

func (e *insteadError) Error() string { return e.text }

// refuse adds a hidden flag that only says what to use instead. With an operand
// it takes one, as scp does.
func refuse(f *pflag.FlagSet, name, short string, operand bool, instead string) {
	f.VarP(refusedFlag{short, instead}, name, short, "")
	flag := f.Lookup(name)
	flag.Hidden = true
	if !operand {
		flag.NoOptDefVal = "true"
	}
}
