//go:build linux

package cli

import (
	"context"
	"io"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
	"golang.org/x/sys/unix"

	"minidocker/final/engine"
)

// Engine is what the command line needs of the engine. References are names, IDs, or the
// beginning of an ID that is the only one.
type Engine interface {
	Create(ctx context.Context, o engine.CreateOptions) (container.CreateResponse, error)
	Start(ctx context.Context, ref string, s *engine.Streams) (Attachment, error)
	Attach(ctx context.Context, ref string, s *engine.Streams) (Attachment, error)
	Exec(ctx context.Context, ref string, r *container.ExecCreateRequest, s *engine.Streams) (
		Attachment, error)
	Stop(ctx context.Context, ref, signal string, seconds *int) error
	Restart(ctx context.Context, ref, signal string, seconds *int) error
	Kill(ctx context.Context, ref, signal string) error
	Pause(ctx context.Context, ref string) error
	Unpause(ctx context.Context, ref string) error
	Wait(ctx context.Context, ref string, c container.WaitCondition) (container.WaitResponse, error)
	Remove(ctx context.Context, ref string, o engine.RemoveOptions) error
	Rename(ctx context.Context, ref, name string) error
	Update(ctx context.Context, ref string, u container.UpdateConfig) (container.UpdateResponse, error)
	Containers(ctx context.Context, o engine.ListOptions) ([]container.Summary, error)
	Inspect(ctx context.Context, ref string, size bool) (*container.InspectResponse, error)
	Logs(ctx context.Context, ref string, o engine.LogOptions, out, err io.Writer) error
	Top(ctx context.Context, ref, psArgs string) (container.TopResponse, error)
	Stats(ctx context.Context, ref string, previous *container.StatsResponse) (
		*container.StatsResponse, error)
	CopyTo(ctx context.Context, ref, path string, tar io.Reader, o engine.CopyOptions) error
	CopyFrom(ctx context.Context, ref, path string) (io.ReadCloser, container.PathStat, error)
	StatPath(ctx context.Context, ref, path string) (container.PathStat, error)
	Changes(ctx context.Context, ref string) ([]container.FilesystemChange, error)
	Export(ctx context.Context, ref string, w io.Writer) error
	PruneContainers(ctx context.Context, f engine.Filters) (container.PruneReport, error)
	Events(ctx context.Context, o engine.EventOptions, f func(events.Message) error) error

	Images(ctx context.Context, o engine.ImageListOptions) ([]image.Summary, error)
	InspectImage(ctx context.Context, ref string) (*image.InspectResponse, error)
	History(ctx context.Context, ref string) ([]image.HistoryResponseItem, error)
	Tag(ctx context.Context, source, target string) error
	RemoveImage(ctx context.Context, ref string, force bool) ([]image.DeleteResponse, error)
	PruneImages(ctx context.Context, f engine.Filters) (*engine.ImagesPruned, error)

	CreateNetwork(ctx context.Context, r network.CreateRequest) (network.CreateResponse, error)
	Networks(ctx context.Context, f engine.Filters) ([]network.Summary, error)
	InspectNetwork(ctx context.Context, ref string) (*network.Inspect, error)
	RemoveNetwork(ctx context.Context, ref string) error
	Connect(ctx context.Context, ref string, r network.ConnectRequest) error
	Disconnect(ctx context.Context, ref string, r network.DisconnectRequest) error
	PruneNetworks(ctx context.Context, f engine.Filters) (network.PruneReport, error)

	CreateVolume(ctx context.Context, r volume.CreateRequest) (*volume.Volume, error)
	Volumes(ctx context.Context, f engine.Filters) ([]*volume.Volume, error)
	InspectVolume(ctx context.Context, name string) (*volume.Volume, error)
	RemoveVolume(ctx context.Context, name string, force bool) error
	PruneVolumes(ctx context.Context, f engine.Filters) (*volume.PruneReport, error)

	Info(ctx context.Context) (*system.Info, error)
	Version(ctx context.Context) system.VersionResponse
	DiskUsage(ctx context.Context) (*system.DiskUsage, error)
}

// Attachment is a connection to a container's process.
type Attachment interface {
	Wait() (engine.Ending, error)
	Signal(s unix.Signal) error
}

// Local is the engine in this process.
type Local struct{ *engine.Engine }

// The methods that give an *engine.Attachment; nil stays nil.

// Start starts a container.
func (l Local) Start(ctx context.Context, ref string, s *engine.Streams) (Attachment, error) {
	a, err := l.Engine.Start(ctx, ref, s)
	return attached(a, ignoreNotModified(err))
}

// Stop ends a container. One that has ended is as it should be.
func (l Local) Stop(ctx context.Context, ref, signal string, seconds *int) error {
	return ignoreNotModified(l.Engine.Stop(ctx, ref, signal, seconds))
}

func ignoreNotModified(err error) error {
	if engine.Code(err) == engine.NotModified {
		return nil
	}
	return err
}

// Attach connects to a running container.
func (l Local) Attach(ctx context.Context, ref string, s *engine.Streams) (Attachment, error) {
	return attached(l.Engine.Attach(ctx, ref, s))
}

// Exec starts another process in a running container.
func (l Local) Exec(
	ctx context.Context, ref string, r *container.ExecCreateRequest, s *engine.Streams,
) (Attachment, error) {
	return attached(l.Engine.Exec(ctx, ref, r, s))
}

func attached(a *engine.Attachment, err error) (Attachment, error) {
	if a == nil || err != nil {
		return nil, err
	}
	return a, nil
}

func notFound(err error) bool { return engine.Code(err) == engine.NotFound }

// Open opens the engine in this process.
func Open(g Globals) (Engine, error) {
	e, err := engine.Open(engine.Options{Root: g.Root, Run: g.Run, Driver: g.Driver})
	if err != nil {
		return nil, err
	}
	return Local{e}, nil
}
