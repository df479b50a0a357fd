package sftp

import (
	"context"
	"io"
	"log/slog"

	"transferd/internal/tree"
)

// A Dialer opens one more SFTP channel to the same server: on a connection that
// stands already, or on one more. It is called by one goroutine at a time.
type Dialer func(ctx context.Context) (io.ReadWriteCloser, error)

// ClientOptions are the settings of a Client. The zero value works.
type ClientOptions struct {
	Journals tree.Journals // what is durable of uploads; nil: they do not resume
	Lanes    int           // channels to spread over; 0: as many as the load asks for, at most 4
	User     string        // the account, user@host:port: part of a journal's key, and named in errors
	Log      *slog.Logger  // nil: discarded
}

// A Client is the tree that an SFTP server shows. Its paths are absolute there,
// without their first slash. It is safe for concurrent use. When a channel
// breaks, what runs on it fails with tree.ErrLost, and the next operation dials
// again; nothing is ever tried twice here.
type Client struct {
	dial Dialer
	o    ClientOptions
	log  *slog.Logger
}

var (
	_ tree.Sink    = (*Client)(nil)
	_ tree.Suber   = (*Client)(nil)
	_ tree.Linker  = (*Client)(nil)
	_ tree.Spacer  = (*Client)(nil)
	_ tree.Carrier = (*Client)(nil)
	_ io.Closer    = (*Client)(nil)
)
