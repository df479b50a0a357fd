// Package interop holds the tests that run our built programs against the real
// programs of others: stock OpenSSH as server and client, and every SFTP client
// that people use. It holds no code of its own.
package interop
