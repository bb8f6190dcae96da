//go:build linux

package archive

// Mend is for the fuzz targets.
var Mend = mend
