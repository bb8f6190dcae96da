//go:build linux

package cli

import (
	"archive/tar"
	"io"
	"path"
	"strings"
)

// counter counts what is written to it.
type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// rename gives an archive whose topmost file or folder is called otherwise. Its first entry is
// that; hard links point to names in the archive, and so are renamed as well.
func rename(r io.Reader, name string) io.ReadCloser {
	out, w := io.Pipe()
	go func() { w.CloseWithError(copyRenamed(tar.NewReader(r), tar.NewWriter(w), name)) }()
	return out
}

func copyRenamed(in *tar.Reader, out *tar.Writer, name string) error {
	var top string
	for first := true; ; first = false {
		h, err := in.Next()
		if err == io.EOF {
			return out.Close()
		}
		if err != nil {
			return err
		}
		if first {
			top = path.Clean(h.Name)
		}
		h.Name = underName(h.Name, top, name)
		if h.Typeflag == tar.TypeLink {
			h.Linkname = underName(h.Linkname, top, name)
		}
		h.Format = tar.FormatPAX
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil {
			return err
		}
	}
}

func underName(file, top, name string) string {
	clean := path.Clean(file)
	rest, ok := strings.CutPrefix(clean, top)
	if top == "." || top == "/" {
		rest, ok = "/"+strings.TrimPrefix(clean, "/"), true
		if clean == "." || clean == "/" {
			rest = ""
		}
	}
	if !ok {
		return file
	}
	if strings.HasSuffix(file, "/") {
		rest += "/"
	}
	return name + rest
}
