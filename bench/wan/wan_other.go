//go:build !linux

// Package wan is a long line in a box. It needs Linux.
package wan
