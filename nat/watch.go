package nat

import (
	"context"

	"ringway/internal/filewatch"
)

// follow sends what look finds, now and after each change of what is watched, if
// look says that it is new. The channel is closed some time after ctx has ended.
func follow[U any](ctx context.Context, w *filewatch.Watcher, look func() (update U, isNew bool)) <-chan U {
	updates := make(chan U)
	send := func() {
		u, isNew := look()
		if !isNew {
			return
		}
		select {
		case updates <- u:
		case <-ctx.Done():
		}
	}
	go func() {
		defer close(updates)
		send()
		w.Run(ctx, send)
	}()
	return updates
}
