//go:build linux

package shim

import (
	"encoding/json"
	"maps"
	"os"
	"time"

	"github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"
)

// maxEvents is how long the file of events may become, in bytes, before it is begun anew; the old
// one stays beside it, with ".1" behind its name.
const maxEvents = 1 << 20

// ContainerEvent is an event of a container's, with its labels among the attributes.
func ContainerEvent(c *Config, action string, attributes map[string]string) events.Message {
	all := map[string]string{}
	maps.Copy(all, c.Labels)
	maps.Copy(all, attributes)
	all["name"], all["image"] = c.Name, c.Image
	return events.Message{
		Type: events.ContainerEventType, Action: events.Action(action),
		Actor: events.Actor{ID: c.ID, Attributes: all},
	}
}

// Happened appends an event to the file. Nobody who does something waits for, or fails for want
// of, those who look on.
func Happened(path string, m events.Message) {
	now := time.Now()
	m.Scope, m.Time, m.TimeNano = "local", now.Unix(), now.UnixNano()
	line, err := json.Marshal(m)
	if err != nil {
		return
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	// One write to a file opened for appending: lines do not mix.
	_, _ = f.Write(append(line, '\n'))
	if info, err := f.Stat(); err == nil && info.Size() > maxEvents {
		rotate(path, f)
	}
}

// rotate begins the file anew, once for all who want it at the same time.
func rotate(path string, f *os.File) {
	if unix.Flock(int(f.Fd()), unix.LOCK_EX) != nil {
		return
	}
	mine, err := f.Stat()
	if err != nil {
		return
	}
	if now, err := os.Stat(path); err == nil && os.SameFile(mine, now) {
		_ = os.Rename(path, path+".1")
	}
}
