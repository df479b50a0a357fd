package main

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
)

func TestLogWithoutVerboseIsPlain(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	log := slog.New(&plainLog{out: &out, level: slog.LevelWarn})
	log.Info("not shown")
	log.With("server", "h").Warn("a key cannot be used", "reason", errors.New("no\x1bkey"))
	log.Error("it is broken", "at_line", 3)
	const want = "transfer: warning: a key cannot be used (server h): no\\x1bkey\ntransfer: it is broken (at line 3)\n"
	if out.String() != want {
		t.Errorf("the log is %q, want %q", out.String(), want)
	}
}
