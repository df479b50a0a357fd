package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// systemFile and systemState are where a daemon of the whole machine has its
// file and its state.
const (
	systemFile  = "/etc/transferd/transferd.yaml"
	systemState = "/var/lib/transferd"
)

// FindServer returns the file that transferd reads: flag if it is not "", else
// $TRANSFERD_CONFIG, else the first of /etc/transferd/transferd.yaml and
// $XDG_CONFIG_HOME/transferd/transferd.yaml that exists, else "".
func FindServer(flag string) string {
	return find(flag, "TRANSFERD_CONFIG", systemFile, xdg("XDG_CONFIG_HOME", ".config", "transferd", "transferd.yaml"))
}

// FindClient returns the file that transfer reads: flag if it is not "", else
// $TRANSFER_CONFIG, else ClientFile's if that exists, else "".
func FindClient(flag string) string {
	return find(flag, "TRANSFER_CONFIG", xdg("XDG_CONFIG_HOME", ".config", "transfer", "config.yaml"))
}

func find(flag, variable string, places ...string) string {
	if flag != "" {
		return flag
	}
	if path := os.Getenv(variable); path != "" {
		return path
	}
	for _, path := range places {
		// A file that exists and cannot be read is a fault, not skipped.
		if _, err := os.Stat(path); path != "" && !errors.Is(err, os.ErrNotExist) {
			return path
		}
	}
	return ""
}

// ServerFile is where transferd init writes when nothing else is said: as root
// the file of the machine, else that of the account.
func ServerFile() (string, error) {
	if os.Geteuid() == 0 {
		return systemFile, nil
	}
	return needed(xdg("XDG_CONFIG_HOME", ".config", "transferd", "transferd.yaml"), "XDG_CONFIG_HOME")
}

// ClientFile is the account's file for transfer, where transfer config init
// writes when nothing else is said.
func ClientFile() (string, error) {
	return needed(xdg("XDG_CONFIG_HOME", ".config", "transfer", "config.yaml"), "XDG_CONFIG_HOME")
}

// ServerStateDir is the state directory of a transferd that is told no other.
func ServerStateDir() (string, error) { return needed(serverStateDir(), "XDG_STATE_HOME") }

// serverStateDir and clientStateDir are the defaults; "" if there is no home.
func serverStateDir() string {
	if os.Geteuid() == 0 {
		return systemState
	}
	return xdg("XDG_STATE_HOME", filepath.Join(".local", "state"), "transferd")
}

func clientStateDir() string {
	return xdg("XDG_STATE_HOME", filepath.Join(".local", "state"), "transfer")
}

// xdg joins elem to the directory that variable names, else to fallback in the
// home directory; "" if there is neither. A relative value is ignored, as the
// XDG base directory specification asks.
func xdg(variable, fallback string, elem ...string) string {
	base := os.Getenv(variable)
	if !filepath.IsAbs(base) {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		base = filepath.Join(home, fallback)
	}
	return filepath.Join(append([]string{base}, elem...)...)
}

func needed(path, variable string) (string, error) {
	if path == "" {
		return "", errors.New("no home directory; set HOME or " + variable)
	}
	return path, nil
}

// resolve makes file names in v absolute if the key is one for file names: ~ is
// the home directory, and a relative name starts in dir.
func (f field) resolve(dir string, v any) any {
	if !f.path {
		return v
	}
	switch v := v.(type) {
	case string:
		return resolvePath(dir, v)
	case []string:
		list := make([]string, len(v))
		for i, s := range v {
			list[i] = resolvePath(dir, s)
		}
		return list
	}
	return v
}

func resolvePath(dir, path string) string {
	if path == "" || path == "none" { // ssh's word for no file at all
		return path
	}
	if rest, ok := strings.CutPrefix(filepath.ToSlash(path), "~"); ok && (rest == "" || rest[0] == '/') {
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, filepath.FromSlash(rest))
		}
	}
	if filepath.IsAbs(path) {
		return path
	}
	if dir, err := filepath.Abs(dir); err == nil { // not when the working directory is gone
		// Not filepath.Join: after a symlink ".." is not what it looks like.
		return dir + string(filepath.Separator) + path
	}
	return path
}
