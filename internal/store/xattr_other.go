//go:build !linux

package store

import (
	"errors"
	"os"
)

// The namespace "user." is one of Linux.

func (d *dir) openXattrs(string) (xattrs, error) { return nil, errors.ErrUnsupported }

func fileXattrs(*os.File, func(xattrs) error) error { return errors.ErrUnsupported }

func isNoXattr(error) bool { return false }
