package protocol

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestDataWithoutACopyIsTheSame(t *testing.T) {
	for _, s := range sampleMessages() {
		d, ok := s.m.(*Data)
		if !ok {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			want := mustAppend(t, nil, s.id, d)
			got, err := AppendData(nil, s.id, d)
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, d.Payload...); !bytes.Equal(got, want) {
				t.Errorf("AppendData = %x, want %x", got, want)
			}
			r := NewReader(bytes.NewReader(want), MaxFrame)
			if _, err := r.Next(); err != nil {
				t.Fatal(err)
			}
			var back Data
			if err := r.Data(&back); err != nil {
				t.Fatal(err)
			}
			payload := make([]byte, r.Pending())
			if _, err := io.ReadFull(r, payload); err != nil || !bytes.Equal(payload, d.Payload) {
				t.Errorf("payload %x, %v, want %x", payload, err, d.Payload)
			}
			if back.Offset != d.Offset || back.Length != d.Length || back.Encoding != d.Encoding || back.Flags != d.Flags || back.Value != d.Value {
				t.Errorf("Data = %+v, want %+v", back, d)
			}
			if _, err := r.Next(); !errors.Is(err, io.EOF) {
				t.Errorf("Next = %v, want EOF", err)
			}
		})
	}
}

// TestDataWithoutACopyRefusesTheSame runs the bad DATA of invalid.txt down the
// path without a copy.
func TestDataWithoutACopyRefusesTheSame(t *testing.T) {
	tried := 0
	for _, row := range readVectors(t, "invalid.txt", 3) {
		r := NewReader(bytes.NewReader(unhex(t, row[2])), MaxFrame)
		if h, err := r.Next(); err != nil || h.Type != TypeData {
			continue
		}
		tried++
		var d Data
		var e *Error
		if err := r.Data(&d); !errors.As(err, &e) || e.Type != TypeData {
			t.Errorf("%s: Data = %v, want an Error of DATA", row[0], err)
		}
	}
	if tried < 9 {
		t.Errorf("only %d vectors were tried", tried)
	}
	for _, d := range []Data{
		{Length: 1},
		{Offset: -1},
		{Encoding: 3},
		{Flags: 0x80},
		{Length: MaxData + 1, Payload: make([]byte, MaxData+1)},
	} {
		if b, err := AppendData(nil, 1, &d); err == nil {
			t.Errorf("AppendData(%+v) = %x, want an error", d, b)
		}
	}
}

// TestDataIsNeitherCopiedNorAllocated sends a payload through both directions of
// the hot path.
func TestDataIsNeitherCopiedNorAllocated(t *testing.T) {
	payload := fill(0, 256<<10)
	head := make([]byte, 0, HeaderSize+DataSize)
	d := Data{Length: uint32(len(payload)), Flags: DataLast | DataValue, Payload: payload}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := AppendData(head, 7, &d); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("AppendData allocates %v times", n)
	}

	frame := mustAppend(t, nil, 7, &d)
	stream := bytes.NewReader(frame)
	r := NewReader(stream, MaxFrame)
	chunk := make([]byte, len(payload))
	var back Data
	if n := testing.AllocsPerRun(100, func() {
		stream.Reset(frame)
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		if err := r.Data(&back); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r, chunk[:r.Pending()]); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("reading allocates %v times", n)
	}
	if !bytes.Equal(chunk, payload) {
		t.Error("the payload is not what was sent")
	}
}

func TestBodyUsesTheMemoryItIsGiven(t *testing.T) {
	frame := mustAppend(t, nil, 7, &Write{Handle: 1, Data: fill(0, 256<<10)})
	stream := bytes.NewReader(frame)
	r := NewReader(stream, MaxFrame)
	buf := make([]byte, MaxFrame)
	if n := testing.AllocsPerRun(100, func() {
		stream.Reset(frame)
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		body, err := r.Body(buf)
		if err != nil || &body[0] != &buf[0] {
			t.Fatalf("Body uses other memory, %v", err)
		}
	}); n != 0 {
		t.Errorf("Body allocates %v times", n)
	}
}

func BenchmarkDataHeaders(b *testing.B) {
	payload := make([]byte, 1<<20)
	d := Data{Length: uint32(len(payload)), Flags: DataLast, Payload: payload}
	head := make([]byte, 0, HeaderSize+DataSize)
	for b.Loop() {
		if _, err := AppendData(head, 7, &d); err != nil {
			b.Fatal(err)
		}
	}
}
