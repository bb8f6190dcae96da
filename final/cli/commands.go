//go:build linux

package cli

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// entry is a command's place. Commands are made when they are asked for, since most of a hundred
// are not.
type entry struct {
	path  string // "container ls"
	short string // what it is called without a group, "" if it must have one
	also  string // another name in its group
	first bool   // the first argument ends the flags
	make  func(*CLI) *cli.Command
	usage string // of those that are not made here
}

// groups are what a command's first word may be, with what the group is about.
var groups = [][2]string{
	{"container", "Manage containers"},
	{"image", "Manage images"},
	{"builder", "Manage builds"},
	{"network", "Manage networks"},
	{"volume", "Manage volumes"},
	{"system", "Manage minidocker"},
}

// entries are all commands, in the order in which help lists them.
func entries() []*entry {
	return []*entry{
		{path: "container run", short: "run", first: true, make: runCommand},
		{path: "container exec", short: "exec", first: true, make: execCommand},
		{path: "container ls", short: "ps", also: "list", make: psCommand},
		{path: "container attach", short: "attach", make: attachCommand},
		{path: "container commit", short: "commit",
			usage: "Create a new image from a container's changes"},
		{path: "container cp", short: "cp", make: cpCommand},
		{path: "container create", short: "create", first: true, make: createCommand},
		{path: "container diff", short: "diff", make: diffCommand},
		{path: "container export", short: "export", make: exportCommand},
		{path: "container inspect", make: inspectContainerCommand},
		{path: "container kill", short: "kill", make: killCommand},
		{path: "container logs", short: "logs", make: logsCommand},
		{path: "container pause", short: "pause", make: pauseCommand},
		{path: "container port", short: "port", make: portCommand},
		{path: "container prune", make: pruneContainersCommand},
		{path: "container rename", short: "rename", make: renameCommand},
		{path: "container restart", short: "restart", make: restartCommand},
		{path: "container rm", short: "rm", also: "remove", make: rmCommand},
		{path: "container start", short: "start", make: startCommand},
		{path: "container stats", short: "stats", make: statsCommand},
		{path: "container stop", short: "stop", make: stopCommand},
		{path: "container top", short: "top", first: true, make: topCommand},
		{path: "container unpause", short: "unpause", make: unpauseCommand},
		{path: "container update", short: "update", make: updateCommand},
		{path: "container wait", short: "wait", make: waitCommand},

		{path: "image build", short: "build", usage: "Build an image from a Dockerfile"},
		{path: "builder build", usage: "Build an image from a Dockerfile"},
		{path: "builder prune", usage: "Remove what builds keep for the next"},
		{path: "image history", short: "history", make: historyCommand},
		{path: "image import", short: "import", usage: "Create an image from a root file system"},
		{path: "image inspect", make: inspectImageCommand},
		{path: "image load", short: "load", usage: "Load images from an archive"},
		{path: "image ls", short: "images", also: "list", make: imagesCommand},
		{path: "image prune", make: pruneImagesCommand},
		{path: "image pull", short: "pull", usage: "Download an image from a registry"},
		{path: "image push", short: "push", usage: "Upload an image to a registry"},
		{path: "image rm", short: "rmi", also: "remove", make: rmiCommand},
		{path: "image save", short: "save", usage: "Save images to an archive"},
		{path: "image tag", short: "tag", make: tagCommand},

		{path: "network connect", make: connectCommand},
		{path: "network create", make: createNetworkCommand},
		{path: "network disconnect", make: disconnectCommand},
		{path: "network inspect", make: inspectNetworkCommand},
		{path: "network ls", also: "list", make: networksCommand},
		{path: "network prune", make: pruneNetworksCommand},
		{path: "network rm", also: "remove", make: rmNetworkCommand},

		{path: "volume create", make: createVolumeCommand},
		{path: "volume inspect", make: inspectVolumeCommand},
		{path: "volume ls", also: "list", make: volumesCommand},
		{path: "volume prune", make: pruneVolumesCommand},
		{path: "volume rm", also: "remove", make: rmVolumeCommand},

		{path: "system df", make: dfCommand},
		{path: "system events", short: "events", make: eventsCommand},
		{path: "system info", short: "info", make: infoCommand},
		{path: "system prune", make: pruneSystemCommand},

		{path: "inspect", short: "inspect", make: inspectCommand},
		{path: "login", short: "login", usage: "Log in to a registry"},
		{path: "logout", short: "logout", usage: "Log out from a registry"},
		{path: "search", short: "search", usage: "Search a registry for images"},
		{path: "union", short: "union", usage: "Show several folders as one, as AUFS does"},
		{path: "version", short: "version", make: versionCommand},
		{path: "daemon", short: "daemon", usage: "Serve the Docker Engine API on a socket"},
	}
}

// called is how a command is written most shortly.
func (e *entry) called() string {
	if e.short != "" {
		return e.short
	}
	return e.path
}

// find gives a command and the words behind its name; or no command and a group's name. It is an
// error if there is neither.
func find(words []string) (*entry, []string, error) {
	group := isGroup(words[0])
	for _, e := range entries() {
		if !group {
			if e.short == words[0] {
				return e, words[1:], nil
			}
			continue
		}
		if len(words) < 2 {
			break
		}
		in, name, _ := strings.Cut(e.path, " ")
		if in == words[0] && (name == words[1] || e.short == words[1] || e.also == words[1]) {
			return e, words[2:], nil
		}
	}
	if group && (len(words) < 2 || words[1] == "--help" || words[1] == "-h") {
		return nil, words, nil
	}
	shown := words[0]
	if group {
		shown += " " + words[1]
	}
	return nil, nil, &Status{Code: statusFailed, Err: fmt.Errorf(
		"unknown command: minidocker %s\n\nRun 'minidocker --help' for more information", shown)}
}

func isGroup(word string) bool {
	for _, g := range groups {
		if g[0] == word {
			return true
		}
	}
	return false
}
