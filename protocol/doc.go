// Package protocol is the native protocol on the wire, as docs/protocol.md lays
// it down: frames, messages, limits, codes, and the texts that are signed. It
// opens nothing, dials nothing and reads no clock; all that it does with a
// stream is to cut it into frames.
//
// Every message has one method, fields, that names its fields in their order on
// the wire. Encoding, decoding and the comparison with the document all run
// through it, so that they cannot differ.
package protocol
