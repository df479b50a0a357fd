package transfer

import "transferd/internal/tree"

// A trail is the way of a walk that follows symlinks: the directories that it
// is in, the innermost first. Nil is the beginning.
type trail struct {
	dir  tree.Entry
	link tree.Entry // the symlink that led to dir, or dir itself
	up   *trail
}

func (t *trail) enter(dir, link tree.Entry) *trail { return &trail{dir: dir, link: link, up: t} }

// leadsBack reports whether dir, to which link led, is on the trail already, so
// that the walk would go round in a circle. Where the tree cannot tell which
// directory is which, a symlink that was followed before is: a circle comes
// past it again and again.
func (t *trail) leadsBack(dir, link tree.Entry) bool {
	for ; t != nil; t = t.up {
		if dir.Inode != 0 {
			if dir.Inode == t.dir.Inode && dir.Device == t.dir.Device {
				return true
			}
			continue
		}
		if link.Kind == tree.KindSymlink && t.link.Kind == tree.KindSymlink &&
			link.Name == t.link.Name && link.Link == t.link.Link && link.Mtime.Equal(t.link.Mtime) {
			return true
		}
	}
	return false
}
