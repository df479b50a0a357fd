package protocol

import (
	"bytes"
	"errors"
	"testing"
)

func TestNumbersThatNobodyGaveOut(t *testing.T) {
	for _, test := range []struct{ got, want string }{
		{Type(0x7f).String(), "type 0x7f"},
		{Code(999).String(), "code 999"},
		{CodeNotFound.String(), "NOT_FOUND"},
		{TypeSetAttr.String(), "SET_ATTR"},
		{Type(0x7f).Sender().String(), "nobody"},
		{TypePing.Sender().String(), "both"},
	} {
		if test.got != test.want {
			t.Errorf("%q, want %q", test.got, test.want)
		}
	}
	if f := Type(0x7f).Fields(); f != nil {
		t.Errorf("a message that is not there has the fields %v", f)
	}
	for typ, want := range map[Type]bool{0: false, TypeAbort: false, 0x7f: false, FirstIgnorable: true, 0xff: true} {
		if got := typ.Ignorable(); got != want {
			t.Errorf("%v.Ignorable() = %v, want %v", typ, got, want)
		}
	}
}

// TestNoMessageIsIgnorable: who does not know a message of this version must
// say so.
func TestNoMessageIsIgnorable(t *testing.T) {
	for i := range types {
		if typ := Type(i); typ.Known() && typ.Ignorable() {
			t.Errorf("%v may be ignored", typ)
		}
	}
}

func TestErrorNamesWhatItRefused(t *testing.T) {
	_, err := Decode(TypeClose, []byte{0, 0, 0, 0})
	if want := "CLOSE, field handle: BAD_MESSAGE"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	_, err = Decode(TypeOK, []byte{0})
	if want := "OK: BAD_MESSAGE"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// TestMessagesLieInTheirFrame: what is not copied shares the body's memory and
// cannot grow into what lies behind it.
func TestMessagesLieInTheirFrame(t *testing.T) {
	frame := mustAppend(t, nil, 1, &HostProof{Key: []byte("key"), Signature: []byte("sig")})
	body := frame[HeaderSize:]
	m, err := Decode(TypeHostProof, body)
	if err != nil {
		t.Fatal(err)
	}
	p, ok := m.(*HostProof)
	if !ok {
		t.Fatalf("a %T was decoded", m)
	}
	if _ = append(p.Key, "more"...); !bytes.Equal(p.Signature, []byte("sig")) {
		t.Error("appending to one field changed the next")
	}
	if &p.Key[0] != &body[4] {
		t.Error("the key was copied")
	}
}

func TestDataIsReadOnlyWhereItIs(t *testing.T) {
	frames := mustAppend(t, nil, 1, &OK{})
	frames = mustAppend(t, frames, 2, &Data{Length: 1, Payload: []byte{1}})
	r := NewReader(bytes.NewReader(frames), MaxFrame)
	var d Data
	var e *Error
	if err := r.Data(&d); !errors.As(err, &e) {
		t.Errorf("Data before Next = %v, want an Error", err)
	}
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	if err := r.Data(&d); !errors.As(err, &e) {
		t.Errorf("Data of OK = %v, want an Error", err)
	}
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	if err := r.Data(&d); err != nil {
		t.Fatal(err)
	}
	if err := r.Data(&d); !errors.As(err, &e) {
		t.Errorf("Data twice = %v, want an Error", err)
	}
}
