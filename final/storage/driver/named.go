//go:build linux

package driver

import "io"

// Named is an archive that says how its layer is to be named, when it has been read: the name of
// an image's layer follows from what is in it. A driver that can wait for it takes one for Apply
// with the id "", and makes one pass where two would be needed.
type Named interface {
	io.Reader
	LayerID() (string, error)
}
