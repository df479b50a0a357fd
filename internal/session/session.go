// Package session is one login's rights around a tree: every operation is
// looked up in one table of permissions before the tree beneath sees it.
package session
