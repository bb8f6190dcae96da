package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/moby/moby/api/types/container"
	"minidocker/final/engine"
	"minidocker/final/image/archive"
)

func main() {
	ctx := context.Background()
	if len(os.Args) > 5 && os.Args[5] == "shim-ended" {
		e, _ := engine.Open(engine.Options{Root: os.Args[2], Run: os.Args[4]})
		fmt.Println(e.Ended(os.Args[6]))
		return
	}
	e, err := engine.Open(engine.Options{Root: "/tmp/et/root", Run: "/tmp/et/run"})
	check(err)
	st, err := e.ImageStore()
	check(err)
	if _, err := st.Lookup("busybox"); err != nil {
		f, err := os.Open("/work/main/build/share/minidocker/busybox-amd64.tar")
		check(err)
		_, err = archive.Import(ctx, st, e.Layers(), f, archive.ImportOptions{Name: "busybox"})
		check(err)
	}
	t := time.Now()
	c, err := e.Create(ctx, engine.CreateOptions{Config: &container.Config{Image: "busybox", Cmd: os.Args[2:]},
		HostConfig: &container.HostConfig{AutoRemove: true, NetworkMode: container.NetworkMode(os.Args[1])}})
	check(err)
	t2 := time.Now()
	a, err := e.Start(ctx, c.ID, &engine.Streams{Out: os.Stdout, Err: os.Stderr})
	check(err)
	t3 := time.Now()
	end, err := a.Wait()
	fmt.Println(end, err, t2.Sub(t), t3.Sub(t2), time.Since(t3))
}

func check(err error) {
	if err != nil {
		fmt.Println("ERR", err)
		os.Exit(1)
	}
}
