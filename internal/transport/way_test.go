package transport

import (
	"errors"
	"strings"
	"testing"
)

func TestEveryWayToATarget(t *testing.T) {
	hosts := []Host{
		{Name: "h"},
		{Name: "t", Transport: "tcp", TCPPort: 7, RemoteCommand: "nice transferd"},
		{Name: "s", Transport: "ssh"},
	}
	const config = "Port 99\nHost alias\n HostKeyAlias name\n"
	for _, tt := range []struct {
		target, transport string
		port              int // -P
		want              way
		label, trust      string
	}{
		{"h:x", "", 0, wayAuto, "me@h:99", "h:99"},
		{"h:x", "auto", 0, wayAuto, "me@h:99", "h:99"},
		{"h:x", "tcp", 0, wayTCP, "me@h:2023", "h:2023"},
		{"h:x", "tcp", 5, wayTCP, "me@h:5", "h:5"},
		{"h:x", "ssh", 5, waySSH, "me@h:5", "h:5"},
		{"h:x", "sftp", 0, waySFTP, "me@h:99", "h:99"},
		{"t:x", "", 0, wayTCP, "me@t:7", "t:7"},
		{"t:x", "", 5, wayTCP, "me@t:5", "t:5"},
		{"t:x", "auto", 0, wayAuto, "me@t:99", "t:99"},
		{"s:x", "", 0, waySSH, "me@s:99", "s:99"},
		{"ssh://h/x", "", 0, wayAuto, "me@h:99", "h:99"},
		{"ssh://t/x", "", 0, wayAuto, "me@t:99", "t:99"},
		{"ssh://s/x", "", 0, waySSH, "me@s:99", "s:99"},
		{"ssh://h/x", "ssh", 0, waySSH, "me@h:99", "h:99"},
		{"ssh://h/x", "sftp", 0, waySFTP, "me@h:99", "h:99"},
		{"sftp://h/x", "", 0, waySFTP, "me@h:99", "h:99"},
		{"sftp://s/x", "auto", 0, waySFTP, "me@s:99", "s:99"},
		{"tcp://h/x", "", 0, wayTCP, "me@h:2023", "h:2023"},
		{"tcp://h/x", "auto", 0, wayTCP, "me@h:2023", "h:2023"},
		{"tcp://u@h:8/x", "tcp", 5, wayTCP, "u@h:8", "h:8"},
		{"tcp://t/x", "", 0, wayTCP, "me@t:7", "t:7"},
		{"alias:x", "", 0, wayAuto, "me@alias:99", "name:22"},
		{"tcp://alias/x", "", 0, wayTCP, "me@alias:2023", "name:2023"},
	} {
		o := Options{Hosts: hosts, Transport: tt.transport, Port: tt.port}
		r, _ := newTestResolver(t, o, map[string]string{".ssh/config": config})
		target, err := ParseTarget(tt.target)
		if err != nil {
			t.Fatal(err)
		}
		s, err := r.resolve(target)
		if err != nil || s.way != tt.want || s.label() != tt.label || s.trustName() != tt.trust {
			t.Errorf("%s with --transport=%s is %s to %s, known as %s, %v; want %s to %s, known as %s",
				tt.target, tt.transport, s.way, s.label(), s.trustName(), err, tt.want, tt.label, tt.trust)
		}
		command := "transferd"
		if target.Host == "t" {
			command = "nice transferd"
		}
		if s.command != command {
			t.Errorf("%s is started by %q, want %q", tt.target, s.command, command)
		}
	}
}

func TestWaysThatAreNone(t *testing.T) {
	for _, tt := range []struct{ target, transport, says string }{
		{"ssh://h/x", "tcp", "ssh:// takes auto, ssh or sftp"},
		{"sftp://h/x", "tcp", "sftp:// takes auto or sftp"},
		{"sftp://h/x", "ssh", "sftp:// takes auto or sftp"},
		{"tcp://h/x", "ssh", "tcp:// takes auto or tcp"},
		{"tcp://h/x", "sftp", "tcp:// takes auto or tcp"},
		{"h:x", "udp", "auto, tcp, ssh or sftp"},
	} {
		r, _ := newTestResolver(t, Options{Transport: tt.transport}, nil)
		target, err := ParseTarget(tt.target)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = r.resolve(target); !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s with --transport=%s: %v, want ErrUsage that says %q", tt.target, tt.transport, err, tt.says)
		}
	}
}
