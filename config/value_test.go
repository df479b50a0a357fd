package config

import (
	"strings"
	"testing"
	"time"
)

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "0B": 0, " 0 ": 0, "512B": 512,
		"1K": 1 << 10, "1KiB": 1 << 10, "1kib": 1 << 10, "1KB": 1000, "1kB": 1000,
		"80MiB": 80 << 20, "80M": 80 << 20, "80m": 80 << 20, "80 MiB": 80 << 20,
		"1GB": 1e9, "1.5GiB": 3 << 29, "500GiB": 500 << 30, "2T": 2 << 40, "1PiB": 1 << 50, "7EiB": 7 << 60,
	} {
		got, err := ParseSize(in)
		if err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v, want %d", in, got, err, want)
		}
		if back, err := ParseSize(FormatSize(got)); err != nil || back != got {
			t.Errorf("ParseSize(FormatSize(%d)) = %d, %v", got, back, err)
		}
	}
	for in, want := range map[string]string{
		"":       "no size",
		"10":     "no unit; write 10MiB",
		"-1MiB":  "no size",
		"fast":   "no size",
		"1e3MiB": "no size",
		"0x10B":  "no size",
		"NaN":    "no size",
		"80Mb":   "b is bits",
		"80mb":   "b is bits",
		"1QiB":   "no size",
		"8EiB":   "too large",
		"1MiBB":  "unknown unit",
		"B":      "no size",
	} {
		if got, err := ParseSize(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseSize(%q) = %d, %v, want an error with %q", in, got, err, want)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "20s": 20 * time.Second, "250ms": 250 * time.Millisecond, "1h30m": 90 * time.Minute,
		"7d": 7 * 24 * time.Hour, "1.5d": 36 * time.Hour, "1d12h": 36 * time.Hour, "1d0s": 24 * time.Hour,
	} {
		got, err := ParseDuration(in)
		if err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v, want %v", in, got, err, want)
		}
		if back, err := ParseDuration(FormatDuration(got)); err != nil || back != got {
			t.Errorf("ParseDuration(FormatDuration(%v)) = %v, %v", got, back, err)
		}
	}
	for in, want := range map[string]string{
		"":          "no duration",
		"10":        "no unit; write 10s",
		"-1s":       "negative",
		"soon":      "no duration",
		"d":         "no duration",
		"1d-1h":     "no duration",
		"999999d":   "too long",
		"106751d9h": "", // the last one that fits is 106751d23h
		"12h1d":     "no duration",
	} {
		got, err := ParseDuration(in)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("ParseDuration(%q) = %v, %v, want an error with %q", in, got, err, want)
		}
	}
}

func TestFormat(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 1: "1B", 1500: "1500B", 1024: "1KiB", 80 << 20: "80MiB", 1e9: "1GB", 1 << 60: "1EiB"} {
		if got := FormatSize(n); got != want {
			t.Errorf("FormatSize(%d) = %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0", 7 * day: "7d", 10 * time.Minute: "10m", time.Hour: "1h", 90 * time.Minute: "1h30m", 90 * time.Second: "1m30s",
	} {
		if got := FormatDuration(d); got != want {
			t.Errorf("FormatDuration(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"listen", "host_keys", "level", "limits"}
	for in, want := range map[string]string{
		"lisen": "listen", "lsiten": "listen", "Listen": "listen", "hostkeys": "host_keys", "lvel": "level",
		"tcp": "", "": "", "quota": "", strings.Repeat("listen", 1000): "",
	} {
		if got := nearest(in, known); got != want {
			t.Errorf("nearest(%.20q) = %q, want %q", in, got, want)
		}
	}
}
