package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
)

// A plainLog shows what the parts below log to a person who did not ask for a
// log: in sentences like every other message. It is a slog.Handler.
type plainLog struct {
	out   io.Writer
	level slog.Level
	attrs []slog.Attr
}

// Enabled implements slog.Handler.
func (p *plainLog) Enabled(_ context.Context, level slog.Level) bool { return level >= p.level }

// WithAttrs implements slog.Handler.
func (p *plainLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *p
	with.attrs = slices.Concat(p.attrs, attrs)
	return &with
}

// WithGroup implements slog.Handler; the sentence has no groups.
func (p *plainLog) WithGroup(string) slog.Handler { return p }

// Handle implements slog.Handler.
func (p *plainLog) Handle(_ context.Context, r slog.Record) error {
	attrs := slices.Clone(p.attrs)
	r.Attrs(func(a slog.Attr) bool { attrs = append(attrs, a); return true })
	var about, why []string
	for _, a := range attrs {
		switch a.Key {
		case "reason", "error", "err", "text":
			why = append(why, a.Value.String())
		default:
			about = append(about, strings.ReplaceAll(a.Key, "_", " ")+" "+a.Value.String())
		}
	}
	text := r.Message
	if len(about) > 0 {
		text += " (" + strings.Join(about, ", ") + ")"
	}
	text = strings.Join(append([]string{text}, why...), ": ")
	if r.Level < slog.LevelError {
		text = "warning: " + text
	}
	_, err := fmt.Fprintf(p.out, "transfer: %s\n", escape(text))
	return err
}
