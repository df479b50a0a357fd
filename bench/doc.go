// Package bench compares our programs with their peers side by side: whole
// commands, in interleaved rounds, on one machine. It holds benchmarks only:
//
//	go test ./bench -bench . -benchtime 1x -timeout 60m
package bench
