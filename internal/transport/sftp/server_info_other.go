//go:build !unix

package sftp

// Sys implements fs.FileInfo.
func (i info) Sys() any { return nil }

// Uid tells pkg/sftp the owner.
func (i info) Uid() uint32 { return i.e.UID } //nolint:revive // pkg/sftp's name for it

// Gid tells pkg/sftp the group.
func (i info) Gid() uint32 { return i.e.GID } //nolint:revive // pkg/sftp's name for it
