package main

import (
	"fmt"
	"net"
	"net/http"
	"time"
)

// serveCommand shows a folder of web pages to the browsers of this machine. Its pages
// ask for nothing from elsewhere, and are told not to.
func serveCommand(c *call) error {
	fs := flags("serve")
	addr := fs.String("addr", "127.0.0.1:8090", "where to listen")
	if err := c.parse(fs, 1, 1); err != nil {
		return err
	}
	l, err := net.Listen("tcp", *addr)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.stdout, "http://%s/ (ends with Ctrl-C)\n", l.Addr())
	s := &http.Server{Handler: site(c.args[0]), ReadHeaderTimeout: time.Minute}
	return s.Serve(l)
}

// site serves the files of a folder.
func site(folder string) http.Handler {
	files := http.FileServer(http.Dir(folder))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-cache") // it may be built again
		h.Set("Content-Security-Policy", "default-src 'self' 'unsafe-inline' data: blob:")
		files.ServeHTTP(w, r)
	})
}
