// Package tcpd is the raw TCP listener: TLS, the proofs of identity, and their
// bounds. What is behind them it hands to the native server.
package tcpd
