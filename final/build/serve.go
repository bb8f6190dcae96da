//go:build linux

package build

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"minidocker/final/engine"
	"minidocker/final/engine/transfer"
	"minidocker/final/image"
)

// Handler answers POST /build of the Docker API: the body is the context as a tar archive, the
// query says what to build, and the answer is a stream of JSON messages.
// See https://docs.docker.com/reference/api/engine/version/v1.47/#operation/ImageBuild.
func Handler(e *engine.Engine, pull transfer.PullOptions) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o, err := fromQuery(r)
		if err != nil {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			_ = json.NewEncoder(w).Encode(map[string]string{"message": err.Error()})
			return
		}
		o.PullOptions = pull
		w.Header().Set("Content-Type", "application/json")
		m := &messages{to: json.NewEncoder(w)}
		m.flush, _ = w.(http.Flusher)
		_ = http.NewResponseController(w).EnableFullDuplex() // of HTTP/1: it may be so already
		img, err := buildRequest(r, e, o, m)
		if err != nil && !m.begun {
			status := http.StatusInternalServerError
			if engine.Code(err) == engine.Invalid {
				status = http.StatusBadRequest
			}
			w.WriteHeader(status)
			m.send(map[string]string{"message": err.Error()})
			return
		}
		if err != nil {
			m.fail(err)
			return
		}
		m.send(map[string]any{"aux": map[string]string{"ID": img.ID}})
		if quiet, _ := strconv.ParseBool(r.FormValue("q")); quiet {
			m.say(img.ID + "\n")
			return
		}
		m.say("Successfully built " + strings.TrimPrefix(img.ID, "sha256:")[:12] + "\n")
		for _, tag := range o.Tags {
			if ref, err := image.ParseReference(tag); err == nil {
				m.say("Successfully tagged " + ref.WithTag().Familiar() + "\n")
			}
		}
	})
}

func buildRequest(
	r *http.Request, e *engine.Engine, o *Options, m *messages,
) (*image.Image, error) {
	var err error
	var text []byte
	if remote := r.FormValue("remote"); remote != "" && remote != "client-session" {
		if !isGit(remote) && !isURL(remote) { // the daemon's own folders are nobody's context
			return nil, &engine.Error{Kind: engine.Invalid,
				Err: fmt.Errorf("remote %q is neither a git repository nor on the web", remote)}
		}
		o.Context, text, err = Open(r.Context(), e, remote, nil)
	} else {
		o.Context, text, err = OpenStream(r.Context(), e, r.Body)
	}
	if err != nil {
		return nil, err
	}
	defer o.Context.Close()
	if o.Dockerfile = text; text == nil {
		if o.Dockerfile, err = o.Context.Dockerfile(o.Name); err != nil {
			return nil, &engine.Error{Kind: engine.Invalid, Err: err}
		}
	}
	if err := o.Context.ReadIgnore(o.Name); err != nil {
		return nil, err
	}
	if quiet, _ := strconv.ParseBool(r.FormValue("q")); !quiet {
		o.Progress = Classic(m)
	}
	return Build(r.Context(), e, *o)
}

// fromQuery reads what is to be built.
func fromQuery(r *http.Request) (*Options, error) {
	q := r.URL.Query()
	yes := func(name string) bool { v, _ := strconv.ParseBool(q.Get(name)); return v }
	o := &Options{Name: q.Get("dockerfile"), Tags: q["t"], Target: q.Get("target"),
		Platform: q.Get("platform"), NoCache: yes("nocache"), Pull: yes("pull"),
		BuildArgs: map[string]string{}}
	if o.Name == "" {
		o.Name = "Dockerfile"
	}
	if o.Platform != "" {
		if err := image.CheckPlatform(o.Platform); err != nil {
			return nil, err
		}
	}
	args := map[string]*string{}
	for name, into := range map[string]any{
		"buildargs": &args, "labels": &o.Labels, "ulimits": &o.Host.Ulimits,
	} {
		if text := q.Get(name); text != "" {
			if err := json.Unmarshal([]byte(text), into); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	for name, value := range args {
		if value != nil {
			o.BuildArgs[name] = *value
		}
	}
	o.Host.ExtraHosts = q["extrahosts"]
	if mode := q.Get("networkmode"); mode != "" && mode != network.NetworkDefault {
		o.Host.NetworkMode = container.NetworkMode(mode)
	}
	return o, limits(q.Get, &o.Host)
}

// limits are those of RUN's containers.
func limits(get func(string) string, host *container.HostConfig) error {
	host.CgroupParent, host.CpusetCpus, host.CpusetMems =
		get("cgroupparent"), get("cpusetcpus"), get("cpusetmems")
	for name, to := range map[string]*int64{
		"memory": &host.Memory, "memswap": &host.MemorySwap, "cpushares": &host.CPUShares,
		"cpuquota": &host.CPUQuota, "cpuperiod": &host.CPUPeriod, "shmsize": &host.ShmSize,
	} {
		if text := get(name); text != "" {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			*to = n
		}
	}
	return nil
}

// messages is a stream of JSON.
type messages struct {
	mu    sync.Mutex
	to    *json.Encoder
	flush http.Flusher
	begun bool // something has been sent
}

func (m *messages) send(v any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.begun = true
	_ = m.to.Encode(v) // a client that is gone ends the request
	if m.flush != nil {
		m.flush.Flush()
	}
}

func (m *messages) say(text string) { m.send(map[string]string{"stream": text}) }

// Write says what is printed.
func (m *messages) Write(p []byte) (int, error) {
	m.say(string(p))
	return len(p), nil
}

// fail says why there is no image. A command's exit status comes with it.
func (m *messages) fail(err error) {
	detail := map[string]any{"message": err.Error()}
	if failed := (*exitError)(nil); errors.As(err, &failed) {
		detail["code"] = failed.status
		detail["message"] = fmt.Sprintf("The command '%s' returned a non-zero code: %d",
			strings.Join(failed.args, " "), failed.status)
	} else if wrong := (*Error)(nil); errors.As(err, &wrong) {
		detail["message"] = err.Error() + "\n" + wrong.Excerpt
	}
	m.send(map[string]any{"errorDetail": detail, "error": detail["message"]})
}
