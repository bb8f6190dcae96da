//go:build linux

package cli

import (
	"context"
	"errors"
	"io"
	"syscall"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
)

// Engine is what the command line needs of the engine. References are names, IDs, or the
// beginning of an ID that is the only one.
type Engine interface {
	Create(ctx context.Context, o CreateOptions) (container.CreateResponse, error)
	Start(ctx context.Context, ref string, s *Streams) (Attachment, error)
	Attach(ctx context.Context, ref string, s *Streams) (Attachment, error)
	Exec(ctx context.Context, ref string, r *container.ExecCreateRequest, s *Streams) (
		Attachment, error)
	Stop(ctx context.Context, ref, signal string, seconds *int) error
	Restart(ctx context.Context, ref, signal string, seconds *int) error
	Kill(ctx context.Context, ref, signal string) error
	Pause(ctx context.Context, ref string) error
	Unpause(ctx context.Context, ref string) error
	Wait(ctx context.Context, ref string, c container.WaitCondition) (container.WaitResponse, error)
	Remove(ctx context.Context, ref string, o RemoveOptions) error
	Rename(ctx context.Context, ref, name string) error
	Update(ctx context.Context, ref string, u container.UpdateConfig) (container.UpdateResponse, error)
	Containers(ctx context.Context, o ListOptions) ([]container.Summary, error)
	Inspect(ctx context.Context, ref string, size bool) (*container.InspectResponse, error)
	Logs(ctx context.Context, ref string, o LogOptions, out, err io.Writer) error
	Top(ctx context.Context, ref, psArgs string) (container.TopResponse, error)
	Stats(ctx context.Context, ref string, previous *container.StatsResponse) (
		*container.StatsResponse, error)
	CopyTo(ctx context.Context, ref, path string, tar io.Reader, o CopyOptions) error
	CopyFrom(ctx context.Context, ref, path string) (io.ReadCloser, container.PathStat, error)
	StatPath(ctx context.Context, ref, path string) (container.PathStat, error)
	Changes(ctx context.Context, ref string) ([]container.FilesystemChange, error)
	Export(ctx context.Context, ref string, w io.Writer) error
	PruneContainers(ctx context.Context, f Filters) (container.PruneReport, error)
	Events(ctx context.Context, o EventOptions, f func(events.Message) error) error

	Images(ctx context.Context, o ImageListOptions) ([]image.Summary, error)
	InspectImage(ctx context.Context, ref string) (*image.InspectResponse, error)
	History(ctx context.Context, ref string) ([]image.HistoryResponseItem, error)
	Tag(ctx context.Context, source, target string) error
	RemoveImage(ctx context.Context, ref string, force, noPrune bool) ([]image.DeleteResponse, error)
	PruneImages(ctx context.Context, f Filters) (image.PruneReport, error)

	CreateNetwork(ctx context.Context, r network.CreateRequest) (network.CreateResponse, error)
	Networks(ctx context.Context, f Filters) ([]network.Inspect, error)
	InspectNetwork(ctx context.Context, ref string) (*network.Inspect, error)
	RemoveNetwork(ctx context.Context, ref string) error
	Connect(ctx context.Context, ref string, r network.ConnectRequest) error
	Disconnect(ctx context.Context, ref string, r network.DisconnectRequest) error
	PruneNetworks(ctx context.Context, f Filters) (network.PruneReport, error)

	CreateVolume(ctx context.Context, r volume.CreateRequest) (*volume.Volume, error)
	Volumes(ctx context.Context, f Filters) ([]*volume.Volume, error)
	InspectVolume(ctx context.Context, name string) (*volume.Volume, error)
	RemoveVolume(ctx context.Context, name string, force bool) error
	PruneVolumes(ctx context.Context, f Filters) (volume.PruneReport, error)

	Info(ctx context.Context) (*system.Info, error)
	Version(ctx context.Context) system.VersionResponse
	DiskUsage(ctx context.Context) (*system.DiskUsage, error)
}

// Attachment is a connection to a container's process.
type Attachment interface {
	Wait() (Ending, error)
	Signal(s syscall.Signal) error
}

// Filters are what a list is cut down to: names of filters with values, of which one must fit.
type Filters map[string][]string

// CreateOptions is as in the engine.
type CreateOptions struct {
	Name       string
	Config     *container.Config
	HostConfig *container.HostConfig
	Networking *network.NetworkingConfig
	Platform   string
}

// Streams is as in the engine.
type Streams struct {
	In         io.Reader
	Out, Err   io.Writer
	DetachKeys []byte
	Size       func() (rows, columns uint16)
	Resize     <-chan struct{}
}

// Ending is as in the engine.
type Ending struct {
	Detached bool
	Status   int
	Error    string
}

// RemoveOptions is as in the engine.
type RemoveOptions struct{ Force, Volumes bool }

// ListOptions is as in the engine.
type ListOptions struct {
	All     bool
	Limit   int
	Size    bool
	Filters Filters
}

// LogOptions is as in the engine.
type LogOptions struct {
	Follow, Timestamps, Details bool
	Since, Until, Tail          string
	Stdout, Stderr              bool
}

// CopyOptions is as in the engine.
type CopyOptions struct{ CopyUIDGID bool }

// EventOptions is as in the engine.
type EventOptions struct {
	Since, Until string
	Filters      Filters
}

// ImageListOptions is as in the engine.
type ImageListOptions struct {
	All, Digests bool
	Filters      Filters
}

// StartError is as in the engine.
type StartError struct {
	Status int
	Err    error
}

func (e *StartError) Error() string { return e.Err.Error() }
func (e *StartError) Unwrap() error { return e.Err }

// ErrNotFound is provisional.
var ErrNotFound = errors.New("not found")

func notFound(err error) bool { return errors.Is(err, ErrNotFound) }
