package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/spf13/cobra"

	"transferd/config"
)

func newConfigCommand(env *environ) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config show|init|path",
		Short: "Show, begin or find the configuration",
		Long: `Settings come from flags, then TRANSFER_* variables, then the configuration
file, then defaults.

` + exitCodeHelp,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("config %q is not known: show, init or path", args[0])
			}
			return usagef("say what to do with the configuration: show, init or path")
		},
		RunE: func(*cobra.Command, []string) error { return nil }, // Args refuses everything
	}
	cmd.AddCommand(newConfigShow(env), newConfigInit(env), newConfigPath(env))
	return cmd
}

func newConfigShow(env *environ) *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show",
		Short:   "Print every setting, its value, and where that comes from",
		Example: "  transfer config show\n  TRANSFER_BWLIMIT=10MiB transfer config show --json",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			settings, err := config.ShowClient(config.FindClient(file), nil)
			if err != nil {
				return err // Faults say it all
			}
			if asJSON {
				return showJSON(env.stdout, settings)
			}
			return showText(env.stdout, settings)
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "the configuration `FILE`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return cmd
}

func showJSON(w io.Writer, settings []config.Setting) error {
	out := jsonLines{out: w}
	for _, s := range settings {
		out.write(struct {
			Event string `json:"event"` // "setting"
			config.Setting
		}{"setting", s})
	}
	return out.close()
}

// showText writes settings as YAML, the origin in a comment, so that the output
// can be the beginning of a file.
func showText(w io.Writer, settings []config.Setting) error {
	for _, s := range settings {
		value, err := yamlText(s.Value)
		if err != nil {
			return fmt.Errorf("show %s: %w", s.Key, err)
		}
		origin := s.Origin
		if s.Source != "" {
			origin += " " + s.Source
		}
		if _, err := fmt.Fprintf(w, "%-32s # %s\n", s.Key+": "+value, escape(origin)); err != nil {
			return err
		}
	}
	return nil
}

// yamlText writes a value in one line of YAML. JSON is that as well, but a
// simple word reads better without quotes.
func yamlText(value any) (string, error) {
	if word, ok := value.(string); ok && regexp.MustCompile(`^[0-9A-Za-z/~][0-9A-Za-z/~._-]*$`).MatchString(word) {
		return word, nil
	}
	text, err := json.Marshal(value)
	return string(text), err
}

func newConfigPath(env *environ) *cobra.Command {
	return &cobra.Command{
		Use:   "path",
		Short: "Print the name of the configuration file, whether it exists or not",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			path := config.FindClient("")
			if path == "" {
				var err error
				if path, err = config.ClientFile(); err != nil {
					return &usageError{err: err}
				}
			}
			_, err := fmt.Fprintln(env.stdout, path)
			return err
		},
	}
}

func newConfigInit(env *environ) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write a commented configuration file; one that exists stays",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			path := file
			if path == "" {
				var err error
				if path, err = config.ClientFile(); err != nil {
					return &usageError{err: err}
				}
			}
			path = env.path(path)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				return err
			}
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if errors.Is(err, fs.ErrExist) {
				return &usageError{err: fmt.Errorf("%s exists and is left as it is", path), hint: "edit it, or remove it first"}
			}
			if err != nil {
				return err
			}
			_, err = f.WriteString(config.ClientTemplate())
			if err := errors.Join(err, f.Close()); err != nil {
				return fmt.Errorf("write %s: %w", path, err)
			}
			_, err = fmt.Fprintln(env.stdout, path)
			return err
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "write this `FILE`")
	return cmd
}
