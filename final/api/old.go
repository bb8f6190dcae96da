//go:build linux

package api

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
	"golang.org/x/sys/unix"

	"minidocker/final/engine"
)

// The types are those of the API's newest version. What follows are the fields that versions up
// to 1.47 have besides, and that clients read.

// inspected is a container as inspect showed it until 1.51.
type inspected struct {
	*container.InspectResponse
	NetworkSettings *oldNetworkSettings
}

// oldNetworkSettings has the default bridge's endpoint at the top.
type oldNetworkSettings struct {
	*container.NetworkSettings
	Bridge                     string
	HairpinMode                bool
	LinkLocalIPv6Address       string
	LinkLocalIPv6PrefixLen     int
	SecondaryIPAddresses       []string
	SecondaryIPv6Addresses     []string
	EndpointID                 string
	Gateway, GlobalIPv6Address netip.Addr
	GlobalIPv6PrefixLen        int
	IPAddress                  netip.Addr
	IPPrefixLen                int
	IPv6Gateway                netip.Addr
	MacAddress                 network.HardwareAddr
}

func oldInspect(c *container.InspectResponse) *inspected {
	s := &oldNetworkSettings{NetworkSettings: c.NetworkSettings}
	if e := c.NetworkSettings.Networks[network.NetworkBridge]; e != nil {
		s.EndpointID, s.Gateway, s.GlobalIPv6Address = e.EndpointID, e.Gateway, e.GlobalIPv6Address
		s.GlobalIPv6PrefixLen, s.IPAddress, s.IPPrefixLen = e.GlobalIPv6PrefixLen, e.IPAddress,
			e.IPPrefixLen
		s.IPv6Gateway, s.MacAddress = e.IPv6Gateway, e.MacAddress
	}
	return &inspected{c, s}
}

// inspectedImage is an image as inspect showed it until 1.44. What it was made by is there for all:
// Compose 1.29 does not go on without, whatever version it speaks.
type inspectedImage struct {
	*image.InspectResponse
	ContainerConfig any
	// Until 1.49; nobody notes what an image was made from, or with.
	Parent, DockerVersion string
	VirtualSize           int64 `json:",omitempty"`
}

func oldInspectImage(i *image.InspectResponse, old bool) *inspectedImage {
	out := &inspectedImage{InspectResponse: i, ContainerConfig: i.Config}
	if old {
		out.VirtualSize = i.Size
	}
	return out
}

// oldStartError has the words by which clients until 25.0 know the exit status 126.
func oldStartError(err error) error {
	denied := unix.EACCES.Error()
	failed := (*engine.StartError)(nil)
	if !errors.As(err, &failed) || failed.Status != 126 || strings.Contains(err.Error(), denied) {
		return err
	}
	return &engine.StartError{Status: failed.Status, Err: fmt.Errorf("%w: %s", err, denied)}
}

// happened is an event, with the fields of the time before events were of more than containers.
type happened struct {
	events.Message
	Status string `json:"status,omitempty"`
	ID     string `json:"id,omitempty"`
	From   string `json:"from,omitempty"`
}

func oldEvent(m events.Message) happened {
	h := happened{Message: m}
	switch m.Type {
	case events.ContainerEventType:
		h.Status, h.ID, h.From = string(m.Action), m.Actor.ID, m.Actor.Attributes["image"]
	case events.ImageEventType:
		h.Status, h.ID = string(m.Action), m.Actor.ID
	}
	return h
}

// diskUsage is what system df showed until 1.51.
type diskUsage struct {
	LayersSize int64
	Images     []image.Summary
	Containers []container.Summary
	Volumes    []volume.Volume
	BuildCache []build.CacheRecord
}

func oldDiskUsage(u *system.DiskUsage, wanted func(kind string) bool) *diskUsage {
	d := &diskUsage{}
	if wanted("image") {
		d.LayersSize, d.Images = u.ImageUsage.TotalSize, append([]image.Summary{}, u.ImageUsage.Items...)
	}
	if wanted("container") {
		d.Containers = append([]container.Summary{}, u.ContainerUsage.Items...)
	}
	if wanted("volume") {
		d.Volumes = append([]volume.Volume{}, u.VolumeUsage.Items...)
	}
	if wanted("build-cache") {
		d.BuildCache = []build.CacheRecord{}
	}
	return d
}

// oldImage is an image in a list, until 1.43 with a size that had another meaning long ago.
type oldImage struct {
	image.Summary
	VirtualSize int64
}

// oldInfo is what the daemon is, with what older clients read.
type oldInfo struct {
	*system.Info
	IndexServerAddress                  string
	ClusterStore, ClusterAdvertise      string `json:",omitempty"`
	BridgeNfIptables, BridgeNfIP6tables bool
	ExecutionDriver                     string `json:",omitempty"`
}
