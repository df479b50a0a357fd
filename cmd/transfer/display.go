package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"transferd/internal/transfer"
)

const (
	plainInterval = 5 * time.Second
	jsonInterval  = 500 * time.Millisecond // the interface promises one a second
	retryQuiet    = 900 * time.Millisecond // less than the first pause before a retry
)

// A progressKind is how the progress of a copy is shown.
type progressKind string

// The values of --progress.
const (
	progressAuto  progressKind = "auto"
	progressBar   progressKind = "bar"
	progressPlain progressKind = "plain"
	progressNone  progressKind = "none"
)

// A display shows a copy to the person and the program that watch it. event may
// be called from several goroutines; close ends the display.
type display struct {
	tally   *tally
	stderr  io.Writer
	json    *jsonLines // nil without --json
	kind    progressKind
	quiet   bool
	verbose bool
	dryRun  bool
	words   func(error) error
	resumes bool // running the same command again goes on

	operands int64 // of the command, the target left out

	bars *bars
	stop chan struct{}
	done sync.WaitGroup

	mu    sync.Mutex
	told  map[string]bool // texts of the latest failures
	hints map[string]bool // that were shown
	retry time.Time       // when the last one was told
}

// maxTold bounds what is remembered of failures. The one that ends a copy is
// among the latest.
const maxTold = 64

// displayOptions say what a display shows.
type displayOptions struct {
	kind    progressKind
	json    bool
	quiet   bool
	verbose bool
	dryRun  bool

	// words puts errors into the words of the person; nil: they are told as
	// they are.
	words func(error) error
}

// newDisplay begins to show a copy. The caller closes it.
func newDisplay(env *environ, o displayOptions) *display {
	d := &display{
		tally:   newTally(env.now),
		stderr:  env.stderr,
		kind:    o.kind,
		quiet:   o.quiet,
		verbose: o.verbose,
		dryRun:  o.dryRun,
		words:   o.words,
		stop:    make(chan struct{}),
		told:    map[string]bool{},
		hints:   map[string]bool{},
	}
	if d.words == nil {
		d.words = func(err error) error { return err }
	}
	shared, _ := env.stderr.(*screen)
	switch {
	case o.quiet, o.json && d.kind == progressAuto:
		d.kind = progressNone
	case d.kind == progressAuto && shared != nil && env.isTerminal(env.stderr) && env.get("TERM") != "dumb":
		d.kind = progressBar
	case d.kind == progressAuto, d.kind == progressBar && shared == nil:
		d.kind = progressPlain
	}
	if o.json {
		d.json = &jsonLines{out: env.stdout}
		d.every(jsonInterval, d.jsonProgress)
	}
	switch d.kind {
	case progressBar:
		d.bars = newBars(shared, d.tally, env.width)
		d.every(barsInterval, d.bars.draw)
	case progressPlain:
		d.every(plainInterval, func() { d.line("%s", plainText(d.tally.snapshot())) })
	case progressAuto, progressNone:
	}
	return d
}

// every calls show again and again until close.
func (d *display) every(interval time.Duration, show func()) {
	d.done.Go(func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				show()
			case <-d.stop:
				return
			}
		}
	})
}

// begin tells that the copy begins.
func (d *display) begin(sources []string, target string) {
	d.resumes = !slices.Contains(sources, "-")
	d.operands = int64(len(sources))
	if d.json != nil {
		d.json.write(startEvent{Event: "start", Sources: sources, Target: target})
	}
}

// event takes what the engine tells; it is a transfer.Options.Events.
func (d *display) event(event transfer.Event) {
	d.tally.add(event)
	switch e := event.(type) {
	case transfer.Finished:
		d.finished(e)
	case transfer.Failed:
		d.remember(e.Err)
		err := d.words(e.Err)
		tell(d.stderr, describe(e.Path, err), d.once(hintFor(err)))
		if d.json != nil {
			d.json.write(failure(e.Path, err))
		}
	case transfer.Retrying:
		if !d.quiet && d.retryIsNews() {
			d.line("%s; trying again in %s (attempt %d)", describe(e.Path, d.words(e.Err)), e.After.Round(100*time.Millisecond), e.Attempt)
		}
	case transfer.Hint:
		if !d.quiet {
			_, _ = fmt.Fprintf(d.stderr, "hint: %s\n", escape(e.Text))
		}
	}
}

func (d *display) finished(e transfer.Finished) {
	if d.json != nil {
		file := fileEvent{
			Event:        "file",
			named:        nameOf(e.Path),
			Size:         e.Size,
			BytesSent:    e.Sent,
			BytesResumed: e.Resumed,
			Seconds:      e.Duration.Seconds(),
			Transport:    e.Transport,
			Verified:     string(e.Verified),
			Status:       string(e.Status),
		}
		if e.HasDigest {
			digest := e.Digest.String()
			file.Blake3 = &digest
		}
		if file.Transport == "" {
			file.Transport = "local"
		}
		d.json.write(file)
	}
	if d.quiet || !d.verbose && e.Status != transfer.Planned {
		return
	}
	_, _ = fmt.Fprintf(d.stderr, "%s: %s%s\n", e.Status, escape(e.Path), detail(e))
}

// detail says of a copied file what is worth knowing beside its name.
func detail(e transfer.Finished) string {
	if e.Status != transfer.Copied {
		return ""
	}
	parts := []string{sizeText(e.Size)}
	if e.Resumed > 0 {
		parts = append(parts, sizeText(e.Resumed)+" of it kept from an earlier run")
	}
	if e.Verified != "" {
		parts = append(parts, "verified: "+string(e.Verified))
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

func (d *display) line(format string, args ...any) {
	_, _ = fmt.Fprintf(d.stderr, "transfer: %s\n", escape(fmt.Sprintf(format, args...)))
}

func (d *display) jsonProgress() {
	s := d.tally.snapshot()
	event := progressEvent{Event: "progress", Bytes: s.bytes, Total: s.total, Files: s.files - s.skipped, Rate: s.rate}
	if s.eta >= 0 {
		eta := s.eta.Seconds()
		event.ETA = &eta
	}
	d.json.write(event)
}

// close ends the display of a copy that came to sum and err, and returns err,
// marked as told where that is so.
func (d *display) close(sum transfer.Summary, err error) error {
	close(d.stop)
	d.done.Wait()
	if d.bars != nil {
		d.bars.stop()
	}
	sent, resumed := d.tally.unfinished()
	sum.Sent += sent
	sum.Resumed += resumed
	nothing := err != nil && sum == transfer.Summary{Failed: sum.Failed, Left: sum.Left, Duration: sum.Duration}
	if nothing && sum.Failed == 0 && !errors.As(err, new(interruptError)) {
		sum.Failed = d.operands // it did not come to any of them
	}
	if d.kind != progressNone && !nothing {
		d.line("%s", summaryText(sum, d.dryRun))
	}
	err = d.conclude(err)
	if d.json == nil {
		return err
	}
	d.jsonProgress()
	d.json.write(doneEvent{
		Event:        "done",
		Files:        sum.Files,
		BytesSent:    sum.Sent,
		BytesResumed: sum.Resumed,
		Skipped:      sum.Skipped,
		Failed:       sum.Failed,
		Left:         sum.Left,
		Seconds:      sum.Duration.Seconds(),
	})
	if jsonErr := d.json.close(); err == nil {
		return jsonErr
	}
	return err
}

// remember keeps in mind that err was told.
func (d *display) remember(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.told) >= maxTold {
		clear(d.told)
	}
	d.told[err.Error()] = true
}

// once returns hint the first time and "" later: many files fail alike.
func (d *display) once(hint string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hints[hint] {
		return ""
	}
	d.hints[hint] = true
	return hint
}

// retryIsNews reports whether no retry was told just now: the files that one
// lost connection broke off are all tried again.
func (d *display) retryIsNews() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.tally.now()
	if !d.retry.IsZero() && now.Sub(d.retry) < retryQuiet {
		return false
	}
	d.retry = now
	return true
}

// conclude tells err, unless it or its parts were told while they happened.
func (d *display) conclude(err error) error {
	if err == nil {
		return nil
	}
	if partial, ok := asPartial(err); ok {
		if partial.Failed+partial.Done > 1 {
			d.line("%d of %d files failed", partial.Failed, partial.Failed+partial.Done)
		}
		return toldError{err}
	}
	d.mu.Lock()
	told := d.told[err.Error()]
	d.mu.Unlock()
	if told {
		return toldError{err}
	}
	err = d.words(err)
	event := failure("", err)
	if errors.As(err, new(interruptError)) && d.resumes {
		event.Hint = "run the same command again: it goes on where this one stopped"
		tell(d.stderr, err.Error(), event.Hint)
	} else {
		report(d.stderr, err)
	}
	if d.json != nil {
		d.json.write(event)
	}
	return toldError{err}
}

// plainText is a line of progress where there are no bars.
func plainText(s snapshot) string {
	var parts []string
	if s.complete {
		parts = append(parts, strings.TrimSpace(percentText(s.bytes, s.total)))
	}
	parts = append(parts, sizeText(s.bytes)+" of "+sizeText(s.total))
	if s.filesTotal > 1 {
		parts = append(parts, fmt.Sprintf("%d of %d files", s.files, s.filesTotal))
	}
	parts = append(parts, rateText(s.rate))
	if s.eta >= 0 {
		parts = append(parts, "eta "+spanText(s.eta))
	}
	return strings.Join(parts, ", ")
}

// summaryText says in one line what a copy did.
func summaryText(sum transfer.Summary, dryRun bool) string {
	if dryRun {
		return fmt.Sprintf("%s would be copied, %d already there", countText(sum.Files, "file"), sum.Skipped)
	}
	parts := []string{countText(sum.Files, "file") + " copied"}
	if sum.Skipped > 0 {
		parts = append(parts, fmt.Sprintf("%d already there", sum.Skipped))
	}
	if sum.Failed > 0 {
		parts = append(parts, fmt.Sprintf("%d failed", sum.Failed))
	}
	if sum.Left > 0 {
		parts = append(parts, fmt.Sprintf("%d not done yet", sum.Left))
	}
	moved := sizeText(sum.Sent) + " sent"
	if sum.Resumed > 0 {
		moved += ", " + sizeText(sum.Resumed) + " kept from earlier runs"
	}
	text := strings.Join(parts, ", ") + "; " + moved + " in " + spanText(sum.Duration)
	if s := sum.Duration.Seconds(); s >= 0.5 && sum.Sent > 0 {
		text += ", " + rateText(float64(sum.Sent)/s)
	}
	return text
}
