// Package treetest is the conformance suite of trees: what package tree
// promises, as tests that every implementation runs.
package treetest

import (
	"testing"
	"time"

	"transferd/internal/tree"
)

// Limits says what a tree cannot do by its nature. The zero value is a tree
// that can do everything.
type Limits struct {
	Grain          time.Duration // resolution of times; 0 means 1 ns
	NoHoles        bool          // does not tell or keep the holes of files
	NoResume       bool          // Begin does not continue what an earlier Writer suspended
	NoSymlinkAttrs bool          // SetAttr of a symlink may be errors.ErrUnsupported
	NoLinks        bool          // no hard links
	UTF8Names      bool          // takes only names that are UTF-8
	MaxName        int           // longest name in bytes; 0 means 255
	VolatileSync   bool          // Receipt.Volatile may be true although Fsync was asked for
	LooseErrors    bool          // cannot tell ErrNotDir, ErrIsDir, ErrNotEmpty and fs.ErrExist from other errors
}

// Run tests the Source and Sink that open returns, an empty tree each time.
// What open needs closed it registers with t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) tree.Sink) {
	t.Helper()
	RunLimited(t, Limits{}, open)
}

// RunFS tests the random access of the FS that open returns, an empty tree
// each time.
func RunFS(t *testing.T, open func(t *testing.T) tree.FS) {
	t.Helper()
	RunFSLimited(t, Limits{}, open)
}

// RunLimited is Run for a tree that cannot do everything.
func RunLimited(t *testing.T, l Limits, open func(t *testing.T) tree.Sink) {
	t.Helper()
}

// RunFSLimited is RunFS for a tree that cannot do everything.
func RunFSLimited(t *testing.T, l Limits, open func(t *testing.T) tree.FS) {
	t.Helper()
}
