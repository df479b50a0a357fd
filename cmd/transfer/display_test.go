package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"transferd/internal/transfer"
)

// A lockedBuffer is a stream that the test reads while it is written.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// take returns what was written since the last call.
func (b *lockedBuffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.buf.Reset()
	return b.buf.String()
}

// testEnviron returns an environ whose stderr is a terminal if terminal says so.
func testEnviron(terminal bool, width int) (env *environ, stdout, stderr *lockedBuffer) {
	stdout, stderr = &lockedBuffer{}, &lockedBuffer{}
	env = &environ{
		stdin: strings.NewReader(""), stdout: stdout, stderr: stderr,
		lookup:     func(string) (string, bool) { return "", false },
		cwd:        "/",
		isTerminal: func(stream any) bool { return terminal && stream == any(stderr) },
		width:      func() int { return width },
		now:        time.Now,
	}
	return env.withScreen(), stdout, stderr
}

// A screenModel is what a terminal shows after the escape sequences that bars
// use.
type screenModel struct {
	lines []string
	row   int
}

func (m *screenModel) write(t *testing.T, text string) {
	t.Helper()
	up := regexp.MustCompile(`^\x1b\[(\d+)A\x1b\[J`)
	for text = strings.ReplaceAll(text, "\r", ""); text != ""; {
		if g := up.FindStringSubmatch(text); g != nil {
			var n int
			if _, err := fmt.Sscan(g[1], &n); err != nil {
				t.Fatal(err)
			}
			if m.row -= n; m.row < 0 {
				t.Fatalf("the cursor went up over the top, by %d", n)
			}
			m.lines = m.lines[:m.row]
			text = text[len(g[0]):]
			continue
		}
		line, rest, ok := strings.Cut(text, "\n")
		if !ok {
			t.Fatalf("unexpected text %q", text)
		}
		m.lines = append(m.lines[:m.row], line)
		m.row++
		text = rest
	}
}

func (m *screenModel) want(t *testing.T, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, m.lines); diff != "" {
		t.Errorf("screen (-want +got):\n%s", diff)
	}
}

func TestBars(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env, _, stderr := testEnviron(true, 80)
		d := newDisplay(env, displayOptions{kind: progressAuto})
		var screen screenModel
		wait := func(d time.Duration) {
			<-time.After(d)
			synctest.Wait()
			screen.write(t, stderr.take())
		}
		wait(time.Second)
		screen.want(t) // nothing is known yet

		d.event(transfer.Found{Files: 2, Bytes: 2 << 20, Complete: true})
		d.event(transfer.Started{ID: 1, Path: "host:a\x1b[2J", Size: 1 << 20})
		d.event(transfer.Moved{ID: 1, Bytes: 512 << 10})
		wait(time.Second)
		if len(screen.lines) != 2 {
			t.Fatalf("screen = %q, want a total and a file", screen.lines)
		}
		total, file := screen.lines[0], screen.lines[1]
		for _, part := range []string{" 25% [", "512 KiB of 2.00 MiB", "/s", "eta 0:0"} {
			if !strings.Contains(total, part) {
				t.Errorf("the total line %q lacks %q", total, part)
			}
		}
		for _, part := range []string{`  host:a\x1b[2J  `, " 50% of 1.00 MiB"} {
			if !strings.Contains(file, part) {
				t.Errorf("the file line %q lacks %q", file, part)
			}
		}

		d.event(transfer.Failed{ID: 1, Path: "host:a", Err: fs.ErrPermission})
		wait(time.Second)
		if len(screen.lines) != 3 {
			t.Fatalf("screen = %q, want a message, its hint, and the total", screen.lines)
		}
		if want := "transfer: host:a: permission denied"; screen.lines[0] != want {
			t.Errorf("the message is %q, want %q", screen.lines[0], want)
		}
		if !strings.HasPrefix(screen.lines[1], "hint: ") {
			t.Errorf("the hint is %q", screen.lines[1])
		}

		partial := &transfer.PartialError{Failed: 1, Done: 1, Errs: []error{fs.ErrPermission}}
		err := d.close(transfer.Summary{Files: 1, Failed: 1, Sent: 3 << 20, Duration: 3 * time.Second}, partial)
		if !errors.As(err, new(toldError)) || exitCode(err) != exitPartly {
			t.Errorf("close = %v, exit code %d", err, exitCode(err))
		}
		screen.write(t, stderr.take())
		screen.want(t, "transfer: host:a: permission denied", screen.lines[1],
			"transfer: 1 file copied, 1 failed; 3.50 MiB sent in 0:03, 1.17 MiB/s", "transfer: 1 of 2 files failed")
	})
}

func TestBarsFitTheTerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, width := range []int{1, 2, 5, 10, 20, 33, 40, 60, 80, 200} {
			b := &bars{width: func() int { return width }, tally: newTally(time.Now)}
			env, _, _ := testEnviron(true, width)
			shared, ok := env.stderr.(*screen)
			if !ok {
				t.Fatal("stderr is no screen")
			}
			b = newBars(shared, b.tally, b.width)
			state := snapshot{
				bytes: 123456789, total: 987654321, complete: true, files: 12, filesTotal: 300, failed: 3,
				rate: 1e8, eta: time.Hour,
			}
			for i := range 10 {
				state.running = append(state.running, moving{
					path: strings.Repeat("日本/", i) + "name.tif", size: 1000, bytes: 10, since: time.Now().Add(-time.Minute),
				})
			}
			lines := b.lines(state, width)
			if want := 1 + maxRunning + 1; len(lines) != want {
				t.Errorf("at width %d there are %d lines, want %d", width, len(lines), want)
			}
			for _, line := range lines {
				if columns(line) > width {
					t.Errorf("at width %d the line %q takes %d columns", width, line, columns(line))
				}
			}
			b.stop()
		}
	})
}

// A scriptedPrompter answers when it is told to.
type scriptedPrompter struct {
	stderr *lockedBuffer
	answer chan string
}

func (p scriptedPrompter) Line(_ context.Context, prompt string) (string, error) {
	if _, err := p.stderr.Write([]byte(prompt + "\n")); err != nil {
		return "", err
	}
	return <-p.answer, nil
}

func (p scriptedPrompter) Secret(ctx context.Context, prompt string) ([]byte, error) {
	line, err := p.Line(ctx, prompt)
	return []byte(line), err
}

func TestBarsMakeWayForQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env, _, stderr := testEnviron(true, 80)
		shared, ok := env.stderr.(*screen)
		if !ok {
			t.Fatal("stderr is no screen")
		}
		answer := make(chan string)
		env.prompts = politePrompter{shared, scriptedPrompter{stderr, answer}}
		d := newDisplay(env, displayOptions{kind: progressAuto})
		d.event(transfer.Found{Files: 1, Bytes: 100})
		d.event(transfer.Started{ID: 1, Path: "a", Size: 100})
		var screen screenModel
		wait := func() {
			<-time.After(time.Second)
			synctest.Wait()
			screen.write(t, stderr.take())
		}
		wait()
		if len(screen.lines) != 2 {
			t.Fatalf("screen = %q, want two bars", screen.lines)
		}
		var got string
		var asked sync.WaitGroup
		asked.Go(func() {
			var err error
			if got, err = env.prompts.Line(t.Context(), "really?"); err != nil {
				t.Error(err)
			}
		})
		wait()
		screen.want(t, "really?")
		d.event(transfer.Hint{Text: "meanwhile"})
		wait()
		screen.want(t, "really?")
		answer <- "yes"
		asked.Wait()
		wait()
		if len(screen.lines) != 4 || screen.lines[0] != "really?" || screen.lines[1] != "hint: meanwhile" {
			t.Errorf("screen = %q, want the question, the hint and two bars", screen.lines)
		}
		if err := d.close(transfer.Summary{Files: 1}, nil); err != nil {
			t.Error(err)
		}
		screen.write(t, stderr.take())
		screen.want(t, "really?", "hint: meanwhile", "transfer: 1 file copied; 0 B sent in 0:00")
		if got != "yes" {
			t.Errorf("the answer is %q", got)
		}
	})
}

func TestPlainProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env, _, stderr := testEnviron(false, 80)
		d := newDisplay(env, displayOptions{kind: progressAuto})
		d.event(transfer.Found{Files: 3, Bytes: 300, Complete: true})
		<-time.After(500 * time.Millisecond) // between the ticks
		for i := range 11 {
			<-time.After(time.Second)
			d.event(transfer.Started{ID: int64(i), Path: "a", Size: 10})
			d.event(transfer.Moved{ID: int64(i), Bytes: 10})
		}
		synctest.Wait()
		if err := d.close(transfer.Summary{Files: 3, Sent: 190, Duration: 11 * time.Second}, nil); err != nil {
			t.Error(err)
		}
		got := regexp.MustCompile(`\d+ B/s, eta \d:\d\d`).ReplaceAllString(stderr.take(), "RATE")
		want := "transfer: 13%, 40 B of 300 B, 0 of 3 files, RATE\n" +
			"transfer: 30%, 90 B of 300 B, 0 of 3 files, RATE\n" +
			"transfer: 3 files copied; 300 B sent in 0:11, 27 B/s\n"
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("stderr (-want +got):\n%s", diff)
		}
	})
}

func TestJSONProgressComesEverySecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env, stdout, stderr := testEnviron(true, 80)
		d := newDisplay(env, displayOptions{kind: progressAuto, json: true})
		d.begin([]string{"a"}, "b")
		d.event(transfer.Found{Files: 1, Bytes: 100, Complete: true})
		d.event(transfer.Started{ID: 1, Path: "a", Size: 100})
		d.event(transfer.Moved{ID: 1, Bytes: 40, Resumed: true})
		<-time.After(10*time.Second + time.Millisecond)
		synctest.Wait()
		if got := strings.Count(stdout.take(), `"event":"progress","bytes":40,"total":100,"files":0,"rate":0,"eta":null`); got < 10 {
			t.Errorf("in ten seconds there were %d progress events", got)
		}
		if err := d.close(transfer.Summary{}, nil); err != nil {
			t.Error(err)
		}
		if text := stderr.take(); text != "" {
			t.Errorf("stderr = %q, want nothing", text)
		}
	})
}

func TestFatalErrorIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env, _, stderr := testEnviron(false, 80)
		d := newDisplay(env, displayOptions{kind: progressNone})
		full := fmt.Errorf("write b: %w", fs.ErrPermission)
		d.event(transfer.Failed{ID: 1, Path: "a", Err: full})
		if err := d.close(transfer.Summary{}, full); exitCode(err) != exitFile {
			t.Errorf("close = %v", err)
		}
		if text := stderr.take(); strings.Count(text, "permission denied") != 1 {
			t.Errorf("stderr = %q, want the error once", text)
		}
	})
}
