package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
)

// A screen is stderr as messages, questions and bars share it: a message goes
// above the bars, a question holds up both. Without bars it is a plain writer.
// It is safe for concurrent use.
type screen struct {
	out io.Writer

	mu      sync.Mutex // guards everything below, and out
	drawing bool       // there are bars, and their owner calls draw
	rows    int        // of the bars now on the terminal, the cursor below them
	asking  int        // questions that wait for an answer
	pending bytes.Buffer
}

// Write shows a message, at once where nothing is in its way.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drawing || s.asking > 0 {
		return s.pending.Write(p)
	}
	return s.out.Write(p)
}

// hold takes the bars away for a question, and returns what gives them back.
func (s *screen) hold() (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asking == 0 {
		s.clear()
		s.flush()
	}
	s.asking++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.asking--; s.asking > 0 {
			return
		}
		if !s.drawing {
			s.flush()
			return
		}
		// The next frame begins by going up over the rows that clear took away:
		// give it empty ones, so that the question stays.
		for range s.rows {
			s.show("\n")
		}
	}
}

// stop ends the time of bars: they vanish, what waited is shown.
func (s *screen) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asking == 0 {
		s.clear()
	}
	s.drawing, s.rows = false, 0
	if s.asking == 0 {
		s.flush()
	}
}

// clear erases the bars. It goes to the first column too, for what a person
// types, such as ^C, moves the cursor. The caller holds mu.
func (s *screen) clear() {
	if s.rows > 0 {
		s.show(fmt.Sprintf("\r\x1b[%dA\x1b[J", s.rows))
	}
}

// flush shows what waited. The caller holds mu.
func (s *screen) flush() {
	s.show(s.pending.String())
	s.pending.Reset()
}

// passBy shows what waited where there is no frame for it to go above. The
// caller holds mu.
func (s *screen) passBy() {
	if s.asking == 0 && s.rows == 0 {
		s.flush()
	}
}

// show writes to the terminal; there is nowhere to tell that it did not work.
func (s *screen) show(text string) { _, _ = io.WriteString(s.out, text) }

// A politePrompter asks while the screen's bars are held.
type politePrompter struct {
	screen *screen
	prompter
}

// Line implements prompter.
func (p politePrompter) Line(ctx context.Context, prompt string) (string, error) {
	defer p.screen.hold()()
	return p.prompter.Line(ctx, prompt)
}

// Secret implements prompter.
func (p politePrompter) Secret(ctx context.Context, prompt string) ([]byte, error) {
	defer p.screen.hold()()
	return p.prompter.Secret(ctx, prompt)
}

// available reports whether there is somebody to ask.
func (p politePrompter) available() bool {
	a, ok := p.prompter.(interface{ available() bool })
	return !ok || a.available()
}
