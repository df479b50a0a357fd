package sftp

import "context"

// openHandle sends an OPEN or OPENDIR and returns the handle. When ctx ends
// before the answer, a handle that comes after all is closed.
func (l *lane) openHandle(ctx context.Context, r query) (string, error) {
	c := l.opening()
	if err := l.send(ctx, r, c); err != nil {
		return "", err
	}
	if err := c.wait(ctx); err != nil {
		return "", err
	}
	return c.handle()
}

// opening is a call whose answer is a handle.
func (l *lane) opening() *call {
	c := newCall()
	c.orphan = func(c *call) {
		if h, err := c.handle(); err == nil {
			l.post(queryOn(typeClose, h))
		}
	}
	return c
}
