package daemon

import (
	"errors"
	"log/slog"
	"os/user"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseSFTPServer(t *testing.T) {
	mask := uint32(0o27)
	plain := SFTPServerOptions{Level: slog.LevelError}
	with := func(change func(*SFTPServerOptions)) SFTPServerOptions {
		o := plain
		change(&o)
		return o
	}
	tests := []struct {
		name string
		args []string
		want SFTPServerOptions
	}{
		{"nothing", nil, plain},
		{"letters together", []string{"-eR"}, with(func(o *SFTPServerOptions) { o.Stderr, o.ReadOnly = true, true })},
		{"value attached", []string{"-d/tmp"}, with(func(o *SFTPServerOptions) { o.Directory = "/tmp" })},
		{"value apart", []string{"-d", "/tmp"}, with(func(o *SFTPServerOptions) { o.Directory = "/tmp" })},
		{"value behind a letter", []string{"-Rd", "/tmp"}, with(func(o *SFTPServerOptions) { o.ReadOnly, o.Directory = true, "/tmp" })},
		{"value that looks like a letter", []string{"-d", "-R"}, with(func(o *SFTPServerOptions) { o.Directory = "-R" })},
		{"operands are skipped", []string{"x", "-R", "y"}, with(func(o *SFTPServerOptions) { o.ReadOnly = true })},
		{"-- ends", []string{"--", "-R"}, plain},
		{"-c ends", []string{"-c", "anything -x", "-Z"}, plain},
		{"umask", []string{"-u", "027"}, with(func(o *SFTPServerOptions) { o.Umask = &mask })},
		{"lists", []string{"-p", "open, read", "-P", "write,remove"}, with(func(o *SFTPServerOptions) {
			o.Allow, o.Deny = []string{"open", "read"}, []string{"write", "remove"}
		})},
		{"level", []string{"-l", "debug3"}, with(func(o *SFTPServerOptions) { o.Level = slog.LevelDebug })},
		{"verbose", []string{"-l", "VERBOSE"}, with(func(o *SFTPServerOptions) { o.Level = slog.LevelInfo })},
		{"facility", []string{"-f", "local3"}, with(func(o *SFTPServerOptions) { o.Facility = "LOCAL3" })},
		{"query", []string{"-Q", "requests"}, with(func(o *SFTPServerOptions) { o.Query = "requests" })},
		{"help", []string{"-h"}, with(func(o *SFTPServerOptions) { o.Help = true })},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseSFTPServer(test.args)
			if err != nil {
				t.Fatalf("ParseSFTPServer(%q) = %v", test.args, err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("ParseSFTPServer(%q) (-want +got):\n%s", test.args, diff)
			}
		})
	}
	for _, args := range [][]string{
		{"-x"},
		{"-:"},
		{"-d"},
		{"-u", "9"},
		{"-u", "1000"},
		{"-u", ""},
		{"-u", "-1"},
		{"-l", "LOUD"},
		{"-f", "MOON"},
		{"-Q", "ciphers"},
		{"-P", "reed"},
		{"-p", "open", "-p", "read"},
		{"--bogus"},
	} {
		if _, err := ParseSFTPServer(args); !errors.Is(err, ErrSFTPUsage) {
			t.Errorf("ParseSFTPServer(%q) = %v, want ErrSFTPUsage", args, err)
		}
	}
}

func TestExpandDirectory(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{
		"/a/b":     "/a/b",
		"~":        me.HomeDir,
		"~/x":      me.HomeDir + "/x",
		"%d/x":     me.HomeDir + "/x",
		"/srv/%u":  "/srv/" + me.Username,
		"/100%%/x": "/100%/x",
		"/%%d":     "/%d",
	} {
		if got := expandDirectory(dir); got != want {
			t.Errorf("expandDirectory(%q) = %q, want %q", dir, got, want)
		}
	}
}
