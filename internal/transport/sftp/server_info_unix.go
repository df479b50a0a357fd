//go:build unix

package sftp

import "syscall"

// Sys tells pkg/sftp the owner and, for the long name, the number of links.
func (i info) Sys() any {
	st := &syscall.Stat_t{Uid: i.e.UID, Gid: i.e.GID}
	setLinks(&st.Nlink, max(1, i.e.Nlink))
	return st
}

// setLinks bridges the widths that Nlink has on different systems.
func setLinks[T ~uint16 | ~uint32 | ~uint64](links *T, n uint64) { *links = T(n) }
