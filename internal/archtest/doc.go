// Package archtest checks, as a test, that packages depend on each other only
// as docs/ARCHITECTURE.md says. It holds no code of its own.
package archtest
