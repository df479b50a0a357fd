package native

import "context"

// spread decides how many streams s has, by s.join, until ctx ends with the
// session.
func spread(ctx context.Context, _ *clientSession) { <-ctx.Done() }
