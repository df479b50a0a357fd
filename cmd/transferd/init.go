package main

import (
	"errors"
	"fmt"
	"os/user"
	"path/filepath"

	"github.com/spf13/cobra"

	"transferd/config"
	"transferd/internal/daemon"
)

func newInitCommand(env environ) *cobra.Command {
	var (
		path  string
		flags config.ServerFlags
		force bool
	)
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write a commented configuration, a host key and the state directory",
		Long: `Write a configuration file in which every setting is explained, make the state
directory, and a host key in it. A host key that is there already stays.

With --root and --authorized-keys the file has one user, named like the account
that runs this; without them its list of users is empty.

` + exitCodeHelp,
		Example: `  transferd init --root /srv/data --authorized-keys /etc/transferd/keys/alice`,
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			return initialise(env, path, flags, force)
		},
	}
	set := cmd.Flags()
	set.StringVar(&path, "config", "", "`FILE` to write (default /etc/transferd/transferd.yaml as root, else $XDG_CONFIG_HOME/transferd/transferd.yaml)")
	set.StringVar(&flags.Root, "root", "", "`DIR` of the first user")
	set.StringVar(&flags.AuthorizedKeys, "authorized-keys", "", "`FILE` of the first user's keys")
	set.StringVar(&flags.StateDir, "state-dir", "", "`DIR` for the host key and the index of unfinished uploads")
	set.BoolVar(&force, "force", false, "replace a configuration file that is there")
	return cmd
}

func initialise(env environ, path string, flags config.ServerFlags, force bool) error {
	var err error
	if path == "" {
		if path, err = config.ServerFile(); err != nil {
			return &usageError{err, "or name the file with --config"}
		}
	}
	template, err := fillTemplate(flags)
	if err != nil {
		return err
	}
	stateDir, err := defaultStateDir(template.StateDir)
	if err != nil {
		return err
	}
	fingerprint, err := daemon.Init(daemon.InitOptions{
		Path:     path,
		StateDir: stateDir,
		Text:     config.ServerTemplate(template),
		Force:    force,
	})
	if errors.Is(err, daemon.ErrExists) {
		return &usageError{err, "--force replaces it, --config names another"}
	}
	if err != nil {
		return err
	}
	next := "name your users in it, then: "
	if len(template.Users) > 0 {
		next = "now: "
	}
	_, err = fmt.Fprintf(env.stdout, "wrote %s\nstate directory %s\nhost key %s\n%stransferd check --config %s && transferd serve --config %s\n",
		path, stateDir, fingerprint, next, path, path)
	return err
}

// fillTemplate makes absolute what the flags name: the file is read from
// elsewhere.
func fillTemplate(flags config.ServerFlags) (config.Template, error) {
	var t config.Template
	if (flags.Root == "") != (flags.AuthorizedKeys == "") {
		return t, &usageError{errors.New("a first user needs --root and --authorized-keys"), "give both, or none and edit the file"}
	}
	for _, path := range []*string{&flags.Root, &flags.AuthorizedKeys, &flags.StateDir} {
		if *path == "" {
			continue
		}
		var err error
		if *path, err = filepath.Abs(*path); err != nil {
			return t, err
		}
	}
	t.StateDir = flags.StateDir
	if flags.Root == "" {
		return t, nil
	}
	me, err := user.Current()
	if err != nil {
		return t, fmt.Errorf("the account that runs this has no name: %w", err)
	}
	t.Users = []config.User{{Name: me.Username, Root: flags.Root, AuthorizedKeysFile: flags.AuthorizedKeys}}
	return t, nil
}

// defaultStateDir is dir, else what a daemon takes when it is told nothing.
func defaultStateDir(dir string) (string, error) {
	if dir != "" {
		return dir, nil
	}
	return config.ServerStateDir()
}
