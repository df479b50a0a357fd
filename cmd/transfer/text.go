package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// escape makes text from elsewhere, such as a remote name, safe to show on a
// terminal: control and direction characters, and bytes that are not UTF-8, are
// written as in a Go string. Everything that prints stays as it is.
func escape(s string) string {
	if plain(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		s = s[size:]
	}
	return b.String()
}

func plain(s string) bool {
	for i, r := range s {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(s[i:]); size == 1 {
				return false
			}
		}
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// sizeText writes a number of bytes for people, three digits or a little more:
// "0 B", "999 B", "1.5 KiB", "20 GiB".
func sizeText(n int64) string {
	return scaled(float64(n), 1024, []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"})
}

func scaled(x, base float64, units []string) string {
	unit := 0
	for x >= base-0.5 && unit < len(units)-1 {
		x /= base
		unit++
	}
	if unit == 0 || x >= 99.95 {
		return fmt.Sprintf("%.0f %s", x, units[unit])
	}
	if x >= 9.995 {
		return fmt.Sprintf("%.1f %s", x, units[unit])
	}
	return fmt.Sprintf("%.2f %s", x, units[unit])
}

// rateText writes bytes a second.
func rateText(rate float64) string { return sizeText(int64(rate)) + "/s" }

// spanText writes a duration as a clock does: "0:07", "12:34", "1:02:03", and
// from two days on "2d 3h".
func spanText(d time.Duration) string {
	s := int64(d.Round(time.Second) / time.Second)
	switch {
	case s >= 48*3600:
		return fmt.Sprintf("%dd %dh", s/86400, s%86400/3600)
	case s >= 3600:
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// countText writes n with the noun in the number that fits: "1 file", "2 files".
func countText(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// elide shortens an escaped name to at most width columns by leaving out its
// middle: the end of a path tells more than its beginning. Columns are counted
// as runes; a few double-width ones are cut off by the terminal line itself.
func elide(s string, width int, columns func(string) int) string {
	if columns(s) <= width {
		return s
	}
	if width < 1 {
		return ""
	}
	runes := []rune(s)
	head := width / 3
	tail := width - 1 - head
	for head+tail > 0 {
		short := string(runes[:head]) + "…" + string(runes[len(runes)-tail:])
		if columns(short) <= width {
			return short
		}
		if head > tail {
			head--
		} else {
			tail--
		}
	}
	return "…"
}
