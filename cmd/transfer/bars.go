package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

const (
	barsInterval = 150 * time.Millisecond
	maxRunning   = 6                      // files that have a line of their own
	minRunning   = 400 * time.Millisecond // shorter-lived ones would only flicker
	minBar       = 10                     // columns, brackets included
	maxBar       = 60
	nameColumns  = 48 // of a file's line, or what comes behind would jump about
)

// bars draws a copy's progress at the bottom of a terminal: a line for
// everything, and one for each of some files on their way. One goroutine calls
// draw, and then stop.
type bars struct {
	screen *screen
	tally  *tally
	width  func() int

	progress *mpb.Progress
	filler   mpb.BarFiller
	tick     chan any
	drawn    chan struct{}
	frame    []string // the rows that are being drawn
}

// newBars takes the screen for bars until stop.
func newBars(s *screen, t *tally, width func() int) *bars {
	b := &bars{
		screen: s,
		tally:  t,
		width:  width,
		filler: mpb.BarStyle().Build(),
		tick:   make(chan any),
		drawn:  make(chan struct{}, 1), // 1: mpb does not wait for draw to look
	}
	b.progress = mpb.New(mpb.WithOutput(b), mpb.WithManualRefresh(b.tick))
	b.progress.MustAdd(0, mpb.BarFillerFunc(func(w io.Writer, _ decor.Statistics) error {
		_, err := io.WriteString(w, b.frame[0])
		return err
	}), mpb.BarFillerTrim(), mpb.BarExtender(mpb.BarFillerFunc(func(w io.Writer, _ decor.Statistics) error {
		for _, line := range b.frame[1:] {
			if _, err := io.WriteString(w, line+"\n"); err != nil {
				return err
			}
		}
		return nil
	}), false))
	s.mu.Lock()
	s.drawing = true
	s.mu.Unlock()
	return b
}

// draw shows the present state, unless a question is waiting for its answer.
func (b *bars) draw() {
	b.screen.mu.Lock()
	defer b.screen.mu.Unlock()
	state := b.tally.snapshot()
	if b.screen.asking > 0 || state.filesTotal == 0 && len(state.running) == 0 {
		b.screen.passBy()
		return
	}
	if b.screen.pending.Len() > 0 {
		_, _ = b.progress.Write(b.screen.pending.Bytes()) // to mpb's buffer, which takes everything
		b.screen.pending.Reset()
	}
	b.frame = b.lines(state, max(b.width()-1, 1)) // a full last column wraps on some terminals
	b.tick <- nil
	<-b.drawn
	b.screen.rows = len(b.frame)
}

// Write shows a frame that mpb has made; draw waits for it and holds the
// screen meanwhile. It takes no notice of errors: the copy matters more.
func (b *bars) Write(p []byte) (int, error) {
	b.screen.show("\r" + string(p))       // mpb takes the cursor to be in the first column
	if bytes.HasSuffix(p, []byte("\n")) { // else it only moves the cursor, as on Windows
		b.drawn <- struct{}{}
	}
	return len(p), nil
}

// stop takes the bars away.
func (b *bars) stop() {
	b.progress.Shutdown()
	b.screen.stop()
}

// lines lays out a frame for width columns.
func (b *bars) lines(s snapshot, width int) []string {
	lines := []string{b.totalLine(s, width)}
	var shown []moving
	longest := 0
	for _, f := range s.running {
		if len(shown) < maxRunning && b.tally.now().Sub(f.since) >= minRunning {
			shown = append(shown, f)
			longest = max(longest, columns(escape(f.path)))
		}
	}
	for _, f := range shown {
		lines = append(lines, fileLine(f, width, max(longest, nameColumns)))
	}
	if more := len(s.running) - len(shown); len(shown) == maxRunning && more > 0 {
		lines = append(lines, elide(fmt.Sprintf("  and %d more", more), width, columns))
	}
	return lines
}

// totalLine is the bar with what fits of the figures; the least important go
// first where the terminal is narrow.
func (b *bars) totalLine(s snapshot, width int) string {
	percent := "    "
	if s.complete {
		percent = percentText(s.bytes, s.total)
	}
	figures := []figure{{sizeText(s.bytes) + " of " + sizeText(s.total), 1}}
	if !s.complete {
		figures[0].text += "+" // still looking
	}
	if s.filesTotal > 1 {
		figures = append(figures, figure{fmt.Sprintf("%d of %d files", s.files, s.filesTotal), 0})
	}
	if s.failed > 0 {
		figures = append(figures, figure{fmt.Sprintf("%d failed", s.failed), 3})
	}
	figures = append(figures, figure{rateText(s.rate), 2})
	if s.eta >= 0 {
		figures = append(figures, figure{"eta " + spanText(s.eta), 4})
	}
	for len(figures) > 0 {
		var texts []string
		for _, f := range figures {
			texts = append(texts, f.text)
		}
		text := strings.Join(texts, "  ")
		if room := width - columns(percent) - columns(text) - 2; room >= minBar {
			return percent + " " + b.bar(s, min(room, maxBar)) + " " + text
		}
		figures = withoutLeast(figures)
	}
	return elide(strings.TrimSpace(percent), width, columns)
}

// A figure is a part of the total line; of those that do not fit the one with
// the least weight goes first.
type figure struct {
	text   string
	weight int
}

func withoutLeast(figures []figure) []figure {
	least := slices.MinFunc(figures, func(a, b figure) int { return a.weight - b.weight })
	return slices.DeleteFunc(figures, func(f figure) bool { return f == least })
}

func (b *bars) bar(s snapshot, width int) string {
	var text strings.Builder
	total := s.total
	if !s.complete {
		total = max(total, 1) * 2 // never looks nearly done while more may be found
	}
	stat := decor.Statistics{AvailableWidth: width, Total: max(total, 1), Current: s.bytes, Refill: min(s.resumed, s.bytes)}
	_ = b.filler.Fill(&text, stat) // a Builder takes everything
	return text.String()
}

// fileLine shows one file: its name, in as many columns as names get and as much
// of it as fits, and how far it is.
func fileLine(f moving, width, names int) string {
	figures := sizeText(f.bytes)
	if f.size >= 0 {
		figures = fmt.Sprintf("%s of %-8s", percentText(f.bytes, f.size), sizeText(f.size)) // as wide as sizes get
	}
	room := width - columns(figures) - 4
	if room < 8 {
		return elide("  "+escape(f.path), width, columns)
	}
	name := elide(escape(f.path), room, columns)
	return "  " + name + strings.Repeat(" ", max(0, min(room, names)-columns(name))) + "  " + strings.TrimRight(figures, " ")
}

func percentText(done, total int64) string {
	if total <= 0 {
		return "100%"
	}
	// 100 only when it is true: rounding up would lie.
	return fmt.Sprintf("%3d%%", int64(float64(done)/float64(total)*100))
}

// columns returns how many columns text takes on a terminal.
func columns(text string) int {
	var wc decor.WC
	_, width := wc.Init().Format(text)
	return width
}
