package store

import (
	"os/user"
	"strconv"
	"sync"

	"transferd/internal/tree"
)

// maxOwnerNames bounds what ownerNames remembers.
const maxOwnerNames = 4096

// ownerNames remembers the names of accounts, which the system reads from a
// file each time. The zero value is ready; it is safe for concurrent use.
type ownerNames struct {
	mu     sync.Mutex
	users  map[uint32]string
	groups map[uint32]string
}

// fill adds the names of e's owners, where the system knows them.
func (o *ownerNames) fill(e *tree.Entry) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.users == nil || len(o.users)+len(o.groups) > maxOwnerNames {
		o.users, o.groups = map[uint32]string{}, map[uint32]string{}
	}
	var known bool
	if e.Owner, known = o.users[e.UID]; !known {
		if u, err := user.LookupId(strconv.FormatUint(uint64(e.UID), 10)); err == nil {
			e.Owner = u.Username
		}
		o.users[e.UID] = e.Owner
	}
	if e.Group, known = o.groups[e.GID]; !known {
		if g, err := user.LookupGroupId(strconv.FormatUint(uint64(e.GID), 10)); err == nil {
			e.Group = g.Name
		}
		o.groups[e.GID] = e.Group
	}
}
