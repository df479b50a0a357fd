package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"transferd/auth"
	"transferd/config"
	"transferd/internal/sshd"
)

// hostKeyName is the host key that a daemon makes for itself, in its state
// directory.
const hostKeyName = "ssh_host_ed25519_key"

// makeStateDir makes the state directory. Nobody else may write in it, or he
// could swap the host key.
func makeStateDir(dir string) error {
	if dir == "" {
		return errors.New("no state directory: set HOME, or name one with --state-dir or state_dir")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("state directory: %w; name one that can be made and written with --state-dir or state_dir", err)
	}
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		return fmt.Errorf("state directory: %w", err)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("state directory %s can be written by others: chmod go-w it", dir)
	}
	return nil
}

// addHostKeys gives server the host keys of the configuration, or the one in the
// state directory, which is made if it is missing.
func addHostKeys(ctx context.Context, server *sshd.Config, c config.Server, log *slog.Logger) error {
	if len(c.SSH.HostKeys) == 0 {
		path := filepath.Join(c.StateDir, hostKeyName)
		key, created, err := auth.LoadOrCreateHostKey(path)
		if err != nil {
			return fmt.Errorf("host key: %w", err)
		}
		if created {
			log.InfoContext(ctx, "host key made", "path", path)
		}
		server.HostKeys = append(server.HostKeys, key)
	}
	for _, path := range c.SSH.HostKeys {
		key, err := auth.LoadHostKey(path)
		if err != nil {
			return fmt.Errorf("host key: %w", err)
		}
		server.HostKeys = append(server.HostKeys, key)
	}
	return nil
}
