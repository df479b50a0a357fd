package main

import (
	"fmt"
	"strconv"
	"time"

	"transferd/internal/tree"
)

// entryEvent is an entry of a tree in --json.
type entryEvent struct {
	Event string `json:"event"` // "entry"
	named
	Kind  string `json:"kind"`
	Size  int64  `json:"size"`
	Mode  string `json:"mode"` // octal, such as "0644"
	UID   uint32 `json:"uid"`
	GID   uint32 `json:"gid"`
	Owner string `json:"owner,omitempty"`
	Group string `json:"group,omitempty"`
	Mtime string `json:"mtime"`
	Atime string `json:"atime,omitempty"`
	Ctime string `json:"ctime,omitempty"`
	Link  *named `json:"link,omitempty"` // where a symlink leads
}

// eventOf makes the event of e, which people know as path.
func eventOf(path string, e tree.Entry) entryEvent {
	event := entryEvent{
		Event: "entry",
		named: nameOf(path),
		Kind:  e.Kind.String(),
		Size:  e.Size,
		Mode:  octal(e.Perm),
		UID:   e.UID,
		GID:   e.GID,
		Owner: e.Owner,
		Group: e.Group,
		Mtime: timeText(e.Mtime),
		Atime: timeText(e.Atime),
		Ctime: timeText(e.Ctime),
	}
	if e.Kind == tree.KindSymlink {
		link := nameOf(e.Link)
		event.Link = &link
	}
	return event
}

func octal(p tree.Perm) string { return fmt.Sprintf("%04o", uint32(p)) }

// timeText writes a moment for programs, "" for none.
func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// modeText writes kind and permissions as ls -l does.
func modeText(e tree.Entry) string {
	kinds := map[tree.Kind]byte{
		tree.KindFile: '-', tree.KindDir: 'd', tree.KindSymlink: 'l', tree.KindFIFO: 'p',
		tree.KindSocket: 's', tree.KindCharDevice: 'c', tree.KindBlockDevice: 'b',
	}
	text := []byte("?rwxrwxrwx")
	if kind, ok := kinds[e.Kind]; ok {
		text[0] = kind
	}
	for i := range 9 {
		if e.Perm&(1<<(8-i)) == 0 {
			text[1+i] = '-'
		}
	}
	special := []struct {
		bit     tree.Perm
		at      int
		with    byte
		without byte // where the file may not be executed
	}{{0o4000, 3, 's', 'S'}, {0o2000, 6, 's', 'S'}, {0o1000, 9, 't', 'T'}}
	for _, s := range special {
		if e.Perm&s.bit == 0 {
			continue
		}
		if text[s.at] == 'x' {
			text[s.at] = s.with
		} else {
			text[s.at] = s.without
		}
	}
	return string(text)
}

// ownerText names the owner, by number where the tree knows no name.
func ownerText(e tree.Entry) (owner, group string) {
	owner, group = e.Owner, e.Group
	if owner == "" {
		owner = strconv.FormatUint(uint64(e.UID), 10)
	}
	if group == "" {
		group = strconv.FormatUint(uint64(e.GID), 10)
	}
	return owner, group
}
