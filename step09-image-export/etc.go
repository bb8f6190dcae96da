//go:build linux

package main

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// bindEtcFiles binds the files that are the container's own, and not the image's,
// over those of the image. They lie on the tmpfs at /run, which goes with the container.
func bindEtcFiles(cfg config) error {
	files := []struct{ name, content string }{
		{"hostname", cfg.Hostname + "\n"},
		{"hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost\n" +
			cfg.hostsAddress() + "\t" + cfg.Hostname + "\n"},
		{"resolv.conf", cfg.ResolvConf},
	}
	const dir = "/run/minidocker"
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for _, f := range files {
		source, target := filepath.Join(dir, f.name), filepath.Join("/etc", f.name)
		if err := os.WriteFile(source, []byte(f.content), 0o644); err != nil {
			return err
		}
		if err := makeMountPoint(target, false); err != nil {
			return err
		}
		if err := mount(source, target, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	return nil
}

// makeMountPoint makes the folder or the empty file at path for something to be
// mounted on, with its parents, unless there is one.
func makeMountPoint(path string, folder bool) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if folder {
		return os.MkdirAll(path, 0o755)
	}
	// An image's /etc/resolv.conf may be a link to a file that is not there yet.
	if link, err := os.Readlink(path); err == nil {
		if !filepath.IsAbs(link) {
			link = filepath.Join(filepath.Dir(path), link)
		}
		path = link
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, nil, 0o644)
}
