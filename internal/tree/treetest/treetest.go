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
	LooseSub       bool          // Sub cannot keep symlinks from leading out
	NamedSub       bool          // Sub holds its directory by name and loses it when that is renamed
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
	for _, test := range []struct {
		name string
		run  func(t *testing.T, s tree.Sink, l Limits)
	}{
		{"Mkdir", testMkdir},
		{"Symlink", testSymlink},
		{"Rename", testRename},
		{"Remove", testRemove},
		{"SetAttr", testSetAttr},
		{"SetAttrOfSymlink", testSetAttrSymlink},
		{"List", testList},
		{"ListLargeDirectory", testListLarge},
		{"OddNames", testOddNames},
		{"Open", testOpen},
		{"OpenIsAHandle", testOpenHandle},
		{"EndedContext", testEndedContext},
		{"UploadSizes", testUploadSizes},
		{"UploadUnknownSize", testUploadUnknownSize},
		{"UploadReplaces", testUploadReplaces},
		{"UploadOntoSymlink", testUploadOntoSymlink},
		{"UploadNoReplace", testUploadNoReplace},
		{"UploadNowhere", testUploadNowhere},
		{"UploadInPlace", testUploadInPlace},
		{"UploadVerifyFull", testUploadVerifyFull},
		{"UploadSparse", testUploadSparse},
		{"Abort", testAbort},
		{"Resume", testResume},
		{"ResumeNot", testResumeNot},
		{"ResumeChangedSource", testResumeChangedSource},
		{"Origins", testOrigins},
		{"Durable", testDurable},
		{"DurableWithoutFsync", testDurableOff},
		{"Put", testPut},
		{"PutErrors", testPutErrors},
		{"PutReplaces", testPutReplaces},
		{"PutAfterUpload", testPutAfterUpload},
		{"PutMany", testPutMany},
		{"Get", testGet},
		{"Xattrs", testXattrs},
		{"XattrsOfUploads", testXattrsOfUploads},
		{"Sub", testSub},
		{"Sum", testSum},
		{"Link", testLink},
		{"Space", testSpace},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t), l) })
	}
}

// RunFSLimited is RunFS for a tree that cannot do everything.
func RunFSLimited(t *testing.T, l Limits, open func(t *testing.T) tree.FS) {
	t.Helper()
	for _, test := range []struct {
		name string
		run  func(t *testing.T, f tree.FS, l Limits)
	}{
		{"Create", testCreate},
		{"Exclusive", testExclusive},
		{"Truncate", testTruncate},
		{"Append", testAppend},
		{"ReadWrite", testReadWrite},
		{"SparseExtend", testSparseExtend},
		{"RandomWrites", testRandomWrites},
		{"UnlinkWhileOpen", testUnlinkWhileOpen},
		{"FileSetAttr", testFileSetAttr},
		{"OpenFollows", testOpenFollows},
		{"OpenDirectory", testOpenDirectory},
		{"FSLink", testFSLink},
		{"FSSpace", testFSSpace},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t), l) })
	}
}
