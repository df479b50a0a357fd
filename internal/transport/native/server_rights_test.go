package native

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"transferd/internal/session"
	"transferd/protocol"
)

// Whatever way a client takes, the rights of its login are asked for.
func TestServerAsksForRights(t *testing.T) {
	const list, read, write, all = session.List, session.Read, session.Write, session.All
	const none = session.Permissions(0)
	begin := &protocol.Begin{Place: at("new"), Size: 5, Chunk: 1 << 20, Origin: "o"}
	inPlace := putOf("old", "other")
	inPlace.Flags = protocol.UploadInPlace
	xattr := protocol.Attr{Set: protocol.AttrXattrs, Xattrs: []protocol.Xattr{{Name: "user.a", Value: []byte("v")}}}
	perm := protocol.Attr{Set: protocol.AttrPerm, Perm: 0o600}
	cut := protocol.Attr{Set: protocol.AttrSize, Size: 0}
	for _, test := range []struct {
		name  string
		m     protocol.Message
		needs session.Permissions // what does; everything that lacks one of it does not
	}{
		{"STAT", &protocol.Stat{Place: at("old")}, list},
		{"LIST", &protocol.List{Place: at("."), Frames: 9}, list},
		{"deep LIST", &protocol.List{Place: at("."), Frames: 9, Flags: protocol.ListDeep}, list},
		{"MEASURE", &protocol.Measure{Place: at(".")}, list},
		{"STAT with xattrs", &protocol.Stat{Place: at("old"), Flags: protocol.StatXattrs}, list | read},
		{"GET", &protocol.Get{Place: at("old"), Limit: 100}, read},
		{"SUM", &protocol.Sum{Place: at("old")}, read},
		{"OPEN to read", &protocol.Open{Place: at("old"), Handle: 9, Flags: protocol.OpenRead}, read},
		{"OPEN to write", &protocol.Open{Place: at("old"), Handle: 9, Flags: protocol.OpenWrite}, write},
		{"OPEN to both", &protocol.Open{Place: at("old"), Handle: 9, Flags: protocol.OpenRead | protocol.OpenWrite}, read | write},
		{"OPEN to truncate", &protocol.Open{Place: at("old"), Handle: 9, Flags: protocol.OpenWrite | protocol.OpenTruncate}, write | session.Delete},
		{"PUT", putOf("new", "hello"), write},
		{"PUT over", putOf("old", "hello"), write | session.Delete},
		{"PUT in place", inPlace, write | session.Delete},
		{"BEGIN", begin, write},
		{"MKDIR", &protocol.Mkdir{Place: at("d2"), Perm: 0o700}, write},
		{"SYMLINK", &protocol.Symlink{Place: at("l"), Target: "old"}, write},
		{"LINK", &protocol.Link{From: at("old"), To: at("l")}, write},
		{"RENAME", &protocol.Rename{From: at("old"), To: at("l")}, write},
		{"RENAME over", &protocol.Rename{From: at("old"), To: at("other")}, write | session.Delete},
		{"REMOVE", &protocol.Remove{Place: at("old")}, session.Delete},
		{"SET_ATTR", &protocol.SetAttr{Place: at("old"), Attr: perm}, write},
		{"SET_ATTR of xattrs", &protocol.SetAttr{Place: at("old"), Attr: xattr}, write},
		{"SET_ATTR of size", &protocol.SetAttr{Place: at("old"), Attr: cut}, write | session.Delete},
	} {
		for _, dir := range []bool{false, true} { // by the root, and by a handle
			for _, has := range []session.Permissions{none, list, read, write, session.Delete, all &^ list, all &^ read, all &^ write, all &^ session.Delete, all} {
				r := newRig(t, ServerConfig{})
				for _, name := range []string{"old", "other"} {
					if err := os.WriteFile(filepath.Join(r.dir, name), []byte("hello"), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				r.tree = session.New(r.store, session.Login{User: "ann", Permissions: has})
				c := r.login()
				m := test.m
				if dir {
					ask[*protocol.OK](c, 1, &protocol.OpenDir{Place: at("."), Handle: 7})
					m = below(t, m, 7)
				}
				c.send(2, m)
				_, answer, err := c.next()
				if err != nil {
					t.Fatal(err)
				}
				f, failed := answer.(*protocol.Fail)
				switch {
				case dir && failed && f.Code == protocol.CodeUnsupported: // OPEN below a handle
				case has.Has(test.needs) && failed:
					t.Errorf("%s with %v: %+v", test.name, has, f)
				case !has.Has(test.needs) && (!failed || f.Code != protocol.CodePermission):
					t.Errorf("%s with %v: %v %+v, want PERMISSION", test.name, has, protocol.TypeOf(answer), answer)
				}
				_ = c.conn.Close()
				if err := <-c.ended; err == nil {
					t.Error("Serve = nil")
				}
			}
		}
	}
}

// below is m with dir as the directory of its paths.
func below(t *testing.T, m protocol.Message, dir uint32) protocol.Message {
	t.Helper()
	frame, err := protocol.Append(nil, 1, m)
	if err != nil {
		t.Fatal(err)
	}
	m, err = protocol.Decode(protocol.TypeOf(m), frame[protocol.HeaderSize:])
	if err != nil {
		t.Fatal(err)
	}
	switch m := m.(type) {
	case *protocol.Stat:
		m.Dir = dir
	case *protocol.List:
		m.Dir = dir
	case *protocol.Measure:
		m.Dir = dir
	case *protocol.Get:
		m.Dir = dir
	case *protocol.Sum:
		m.Dir = dir
	case *protocol.Open:
		m.Dir = dir
	case *protocol.Put:
		m.Dir = dir
	case *protocol.Begin:
		m.Dir = dir
	case *protocol.Mkdir:
		m.Dir = dir
	case *protocol.Symlink:
		m.Dir = dir
	case *protocol.Link:
		m.From.Dir, m.To.Dir = dir, dir
	case *protocol.Rename:
		m.From.Dir, m.To.Dir = dir, dir
	case *protocol.Remove:
		m.Dir = dir
	case *protocol.SetAttr:
		m.Dir = dir
	default:
		t.Fatalf("%T", m)
	}
	return m
}

// What a handle was not opened for, it does not do either.
func TestServerHandlesGiveNoOtherRights(t *testing.T) {
	r := newRig(t, ServerConfig{})
	if err := os.WriteFile(filepath.Join(r.dir, "old"), []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.tree = session.New(r.store, session.Login{User: "ann", Permissions: session.Read | session.Write})
	c := r.login()
	ask[*protocol.Found](c, 1, &protocol.Open{Place: at("old"), Handle: 1, Flags: protocol.OpenWrite})
	ask[*protocol.Found](c, 2, &protocol.Open{Place: at("old"), Handle: 2, Flags: protocol.OpenRead})
	c.fails(3, &protocol.Read{Handle: 1, Length: 5}, protocol.CodePermission)
	c.fails(4, &protocol.Hash{Handle: 1, Chunk: 1 << 20, Count: 1}, protocol.CodePermission)
	c.fails(5, &protocol.Map{Handle: 1}, protocol.CodePermission)
	c.fails(6, &protocol.Write{Handle: 2, Data: []byte("x")}, protocol.CodePermission)
	c.fails(7, &protocol.SetAttrFile{Handle: 2, Attr: protocol.Attr{Set: protocol.AttrSize}}, protocol.CodePermission)
	c.fails(8, &protocol.SetAttrFile{Handle: 1, Attr: protocol.Attr{Set: protocol.AttrSize}}, protocol.CodePermission)
	c.bye()
	if got, err := os.ReadFile(filepath.Join(r.dir, "old")); string(got) != "hello" || err != nil {
		t.Errorf("the file is %q, %v", got, err)
	}
}

// Nothing leads out of a confined tree, by whatever message.
func TestServerLetsNothingOut(t *testing.T) {
	r := newRig(t, ServerConfig{})
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"file": secret, "dir": outside, "up": "../" + filepath.Base(outside)} {
		if err := os.Symlink(target, filepath.Join(r.dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(r.dir, "in", "deep"), 0o700); err != nil {
		t.Fatal(err)
	}
	c := r.login()
	inPlace := putOf("file", "other")
	inPlace.Flags = protocol.UploadInPlace
	id := uint64(0)
	refused := func(m protocol.Message) {
		t.Helper()
		id++
		c.send(id, m)
		_, answer, err := c.next()
		if err != nil {
			t.Fatal(err)
		}
		if f, ok := answer.(*protocol.Fail); !ok || f.Code != protocol.CodeEscape && f.Code != protocol.CodeNotFound && f.Code != protocol.CodeNotRegular {
			t.Errorf("%v %+v: %v %+v", protocol.TypeOf(m), m, protocol.TypeOf(answer), answer)
		}
	}
	for _, m := range []protocol.Message{
		&protocol.Get{Place: at("file"), Limit: 9}, &protocol.Get{Place: at("dir/secret"), Limit: 9}, &protocol.Get{Place: at("up/secret"), Limit: 9},
		&protocol.Sum{Place: at("file")}, &protocol.Stat{Place: at("file"), Flags: protocol.StatFollow},
		&protocol.Open{Place: at("file"), Handle: 1, Flags: protocol.OpenRead},
		&protocol.Open{Place: at("file"), Handle: 1, Flags: protocol.OpenWrite | protocol.OpenCreate | protocol.OpenTruncate},
		&protocol.Open{Place: at("dir/new"), Handle: 1, Flags: protocol.OpenWrite | protocol.OpenCreate},
		&protocol.OpenDir{Place: at("dir"), Handle: 1}, &protocol.List{Place: at("dir"), Frames: 9}, &protocol.Measure{Place: at("dir/secret")},
		&protocol.Mkdir{Place: at("dir/new"), Perm: 0o700}, &protocol.Symlink{Place: at("dir/new"), Target: "x"},
		&protocol.Remove{Place: at("dir/secret")}, &protocol.Rename{From: at("dir/secret"), To: at("mine")},
		&protocol.Rename{From: at("in"), To: at("dir/in")}, &protocol.Link{From: at("dir/secret"), To: at("mine")},
		&protocol.SetAttr{Place: at("dir/secret"), Attr: protocol.Attr{Set: protocol.AttrPerm, Perm: 0o777}},
		putOf("dir/new", "x"), putOf("up/new", "x"),
		&protocol.Begin{Place: at("dir/new"), Size: 5, Chunk: 1 << 20, Origin: "o"},
	} {
		refused(m)
	}
	for _, x := range ask[*protocol.Listed](c, 500, &protocol.List{Place: at("."), Flags: protocol.ListDeep, Frames: 9}).Names {
		if strings.Contains(x.Path, "secret") {
			t.Errorf("LIST follows to %s", x.Path)
		}
	}
	// An open directory that is moved still ends at the root.
	ask[*protocol.OK](c, 501, &protocol.OpenDir{Place: at("in/deep"), Handle: 5})
	ask[*protocol.OK](c, 502, &protocol.Rename{From: at("in/deep"), To: at("moved")})
	ask[*protocol.OK](c, 503, &protocol.Symlink{Place: at("moved/l"), Target: "../../" + filepath.Base(outside)})
	refused(&protocol.Get{Place: protocol.Place{Dir: 5, Path: "l/secret"}, Limit: 9})
	// A copy replaces the link, and not what it leads to. So does one in place, for
	// it cannot write there.
	ask[*protocol.Committed](c, 505, inPlace)
	ask[*protocol.Committed](c, 504, putOf("file", "mine"))
	got, err := os.ReadFile(secret)
	info, lerr := os.Stat(secret)
	if string(got) != "hello" || err != nil || lerr != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("what lies outside is %q, %v, %v", got, err, lerr)
	}
	if names, err := os.ReadDir(outside); len(names) != 1 || err != nil {
		t.Errorf("outside there are %v, %v", names, err)
	}
	c.bye()
}
