package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"unicode/utf8"
)

// jsonLines writes one object a line, each with its event. It is safe for
// concurrent use.
type jsonLines struct {
	mu  sync.Mutex
	out io.Writer
	err error // the first that writing met
}

// A named is the name of something, in the way every event has it. What is not
// UTF-8 is there a second time, byte for byte in base64.
type named struct {
	Path    string `json:"path"`
	PathB64 string `json:"path_b64,omitempty"`
}

func nameOf(path string) named {
	n := named{Path: path}
	if !utf8.ValidString(path) {
		n.PathB64 = base64.StdEncoding.EncodeToString([]byte(path))
	}
	return n
}

type startEvent struct {
	Event   string   `json:"event"` // "start"
	Sources []string `json:"sources"`
	Target  string   `json:"target"`
}

type fileEvent struct {
	Event string `json:"event"` // "file"
	named
	Size         int64   `json:"size"`
	BytesSent    int64   `json:"bytes_sent"`
	BytesResumed int64   `json:"bytes_resumed"`
	Seconds      float64 `json:"seconds"`
	Blake3       *string `json:"blake3"` // null where nobody hashed it
	Transport    string  `json:"transport"`
	Verified     string  `json:"verified"`
	Status       string  `json:"status"`
}

type progressEvent struct {
	Event string   `json:"event"` // "progress"
	Bytes int64    `json:"bytes"`
	Total int64    `json:"total"`
	Files int64    `json:"files"`
	Rate  float64  `json:"rate"` // bytes a second
	ETA   *float64 `json:"eta"`  // seconds; null: not known
}

type errorEvent struct {
	Event string `json:"event"` // "error"
	named
	Code    int    `json:"code"` // the exit code this error alone would give
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

type doneEvent struct {
	Event        string  `json:"event"` // "done"
	Files        int64   `json:"files"`
	BytesSent    int64   `json:"bytes_sent"`
	BytesResumed int64   `json:"bytes_resumed"`
	Skipped      int64   `json:"skipped"`
	Failed       int64   `json:"failed"`
	Left         int64   `json:"left"` // not tried, or not to the end, because the copy stopped
	Seconds      float64 `json:"seconds"`
}

// write puts out one event.
func (j *jsonLines) write(event any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return
	}
	enc := json.NewEncoder(j.out)
	enc.SetEscapeHTML(false)
	j.err = enc.Encode(event)
}

// close returns what went wrong with the output.
func (j *jsonLines) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return fmt.Errorf("write the JSON output: %w", j.err)
	}
	return nil
}

// failure makes the event of an error.
func failure(path string, err error) errorEvent {
	return errorEvent{
		Event:   "error",
		named:   nameOf(path),
		Code:    exitCode(err),
		Message: err.Error(),
		Hint:    hintFor(err),
	}
}
