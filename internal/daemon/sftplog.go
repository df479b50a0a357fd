package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"strings"
)

// levelQuiet is above every level that is logged.
const levelQuiet = slog.Level(100)

// parseLevel reads one of OpenSSH's log levels.
func parseLevel(name string) (slog.Level, error) {
	switch strings.ToUpper(name) {
	case "QUIET":
		return levelQuiet, nil
	case "FATAL", "ERROR":
		return slog.LevelError, nil
	case "INFO", "VERBOSE":
		return slog.LevelInfo, nil
	case "DEBUG", "DEBUG1", "DEBUG2", "DEBUG3":
		return slog.LevelDebug, nil
	}
	return 0, fmt.Errorf("%q is no log level: QUIET, FATAL, ERROR, INFO, VERBOSE or DEBUG, DEBUG1 to DEBUG3", name)
}

// parseFacility reads one of OpenSSH's syslog facilities.
func parseFacility(name string) (syslog.Priority, error) {
	known := map[string]syslog.Priority{
		"": syslog.LOG_AUTH, "AUTH": syslog.LOG_AUTH, "AUTHPRIV": syslog.LOG_AUTHPRIV,
		"DAEMON": syslog.LOG_DAEMON, "USER": syslog.LOG_USER,
		"LOCAL0": syslog.LOG_LOCAL0, "LOCAL1": syslog.LOG_LOCAL1, "LOCAL2": syslog.LOG_LOCAL2, "LOCAL3": syslog.LOG_LOCAL3,
		"LOCAL4": syslog.LOG_LOCAL4, "LOCAL5": syslog.LOG_LOCAL5, "LOCAL6": syslog.LOG_LOCAL6, "LOCAL7": syslog.LOG_LOCAL7,
	}
	if facility, ok := known[name]; ok {
		return facility, nil
	}
	return 0, fmt.Errorf("%q is no log facility: AUTH, AUTHPRIV, DAEMON, USER or LOCAL0 to LOCAL7", name)
}

// sftpLogger returns the logger of one sftp-server, and what closes it.
func sftpLogger(o SFTPServerOptions, stderr io.Writer) (log *slog.Logger, stop func()) {
	if o.Stderr {
		return newLogger(stderr, o.Level, "text"), func() {}
	}
	facility, err := parseFacility(o.Facility)
	if err != nil {
		facility = syslog.LOG_AUTH // ParseSFTPServer has let it pass: it is none
	}
	w, err := syslog.New(facility|syslog.LOG_INFO, "transferd-sftp-server")
	if err != nil {
		// As with syslog(3): without anybody who listens it is silent.
		return slog.New(slog.DiscardHandler), func() {}
	}
	return slog.New(newSyslogHandler(w, o.Level)), func() { _ = w.Close() }
}

// A syslogHandler writes each record with the severity of its level.
type syslogHandler struct {
	level      slog.Level
	severities [4]slog.Handler // debug, info, warning, error
}

// lineWriter is one severity of a syslog.Writer.
type lineWriter func(string) error

// Write implements io.Writer.
func (w lineWriter) Write(p []byte) (int, error) {
	return len(p), w(strings.TrimSuffix(string(p), "\n"))
}

func newSyslogHandler(w *syslog.Writer, level slog.Level) *syslogHandler {
	h := &syslogHandler{level: level}
	for i, write := range []lineWriter{w.Debug, w.Info, w.Warning, w.Err} {
		h.severities[i] = slog.NewTextHandler(write, &slog.HandlerOptions{
			Level: level,
			ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
				// syslog has its own time and severity.
				if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
					return slog.Attr{}
				}
				return a
			},
		})
	}
	return h
}

// Enabled implements slog.Handler.
func (h *syslogHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }

// Handle implements slog.Handler.
func (h *syslogHandler) Handle(ctx context.Context, r slog.Record) error {
	i := 0
	for _, from := range []slog.Level{slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if r.Level >= from {
			i++
		}
	}
	return h.severities[i].Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *syslogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.each(func(s slog.Handler) slog.Handler { return s.WithAttrs(attrs) })
}

// WithGroup implements slog.Handler.
func (h *syslogHandler) WithGroup(name string) slog.Handler {
	return h.each(func(s slog.Handler) slog.Handler { return s.WithGroup(name) })
}

func (h *syslogHandler) each(change func(slog.Handler) slog.Handler) *syslogHandler {
	changed := &syslogHandler{level: h.level}
	for i, s := range h.severities {
		changed.severities[i] = change(s)
	}
	return changed
}
