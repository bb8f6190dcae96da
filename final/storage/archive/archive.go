//go:build linux

// Package archive turns tar archives into trees of files, and trees into archives: layers of
// images, what export and import and cp pass on. It knows the layer format (whiteouts) and no
// images or containers; nothing here is compressed.
//
//	             Unpack                                Pack, Changes
//	layer.tar ------------> folder of a layer -------------------------> layer.tar
//	 .wh.NAME                device 0/0 NAME            .wh.NAME
//	 .wh..wh..opq            trusted.overlay.opaque     .wh.NAME for each
//	                         (or as in the archive)
//
// An archive may be hostile. Every name is resolved beneath the folder, links in it as if the
// folder were "/" (openat2(2), RESOLVE_IN_ROOT): nothing outside is written, read or linked.
// What claims more than the disk has is refused before it is written.
//
// See the OCI image specification, "Image Layer Filesystem Changeset"; POSIX pax(1);
// Documentation/filesystems/overlayfs.rst.
package archive

// Whiteouts says what becomes of the names that hide what lower layers have.
type Whiteouts int

// In an archive a whiteout is an empty file .wh.NAME, and .wh..wh..opq in a folder hides all
// that lower layers have there.
const (
	// Names are names: for archives that are no layers, and for a union that reads .wh. itself.
	WhiteoutsKeep Whiteouts = iota
	// As overlayfs spells them, a device 0/0 and the attribute overlay.opaque.
	WhiteoutsOverlay
	// What they hide is deleted: the folder has the lower layers' files in it.
	WhiteoutsDelete
	// As AUFS spells them, by the names that they have in the archive.
	WhiteoutsAUFS
)

// The names of the AUFS format, which the layers of images still use.
const (
	whiteoutPrefix = ".wh."
	metaPrefix     = ".wh..wh." // AUFS's own; of these, layers have the following two
	opaqueName     = ".wh..wh..opq"
	linksName      = ".wh..wh.plnk" // a folder of files that hard links lead to
)

// xattrPrefix is how the PAX records of a tar archive name extended attributes.
const xattrPrefix = "SCHILY.xattr."

// Owner is a user and a group, as numbers.
type Owner struct{ UID, GID int }
