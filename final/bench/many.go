//go:build linux

package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// crowd is how many containers run beside what is measured last.
const crowd = 500

// crowdCases are what could grow with the number of running containers. They come last: the
// containers stay until the engine is stopped.
func crowdCases(ours *engineProgram, bundles *runtimeProgram, plain string) []*benchmark {
	start := sync.OnceValue(func() error {
		run := ours.calls("run", "-d", "--network", "none", engineImage, "sleep", "1000000")
		return manyRuns("", crowd, 8, run.start).start()
	})
	beside := func(c contender) contender {
		c.before = start
		return c
	}
	runs := []contender{
		beside(ours.calls("run", "--rm", "--network", "none", engineImage, "true")),
	}
	if bundles != nil {
		bare := bundles.runs(plain)
		bare.name += ", a bundle without network"
		runs = append(runs, beside(bare))
	}
	what := fmt.Sprintf("engine, beside %d running containers: ", crowd)
	return []*benchmark{
		{name: what + "run --rm --network none", cold: true, base: ours.name, contenders: runs},
		{name: what + "ps", cold: true, base: ours.name,
			contenders: []contender{beside(ours.calls("ps"))}},
		{name: what + "list by the API", cold: true, base: ours.name,
			contenders: []contender{beside(ours.asks(1, "/v1.40/containers/json"))}},
	}
}

// shimMemory says what a container takes beside its own processes: the proportional set size of
// what stays of the engine for each.
func shimMemory(out *strings.Builder) {
	total, count := 0, 0
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, line := range lines {
		if data, _ := os.ReadFile(line); !strings.HasPrefix(string(data), "minirunc\x00shim") {
			continue
		}
		rollup, err := os.ReadFile(filepath.Join(filepath.Dir(line), "smaps_rollup"))
		if err != nil {
			continue // it has just ended
		}
		count++
		for l := range strings.Lines(string(rollup)) {
			if rest, ok := strings.CutPrefix(l, "Pss:"); ok {
				size, _ := strconv.Atoi(strings.Fields(rest)[0])
				total += size
			}
		}
	}
	if count > 0 {
		fmt.Fprintf(out, "A container at rest takes %.2f MiB of the engine's, beside its own processes "+
			"(proportional set size, %d of them running).\n\n", float64(total)/1024/float64(count), count)
	}
}

// speaks is a contender that reads the logs of a container by the API, who has said 100 MB.
func (p *engineProgram) speaks() (contender, error) {
	line := strings.Repeat("0123456789", 10)[1:]
	args := append(p.runs("--network", "none", "--name", "speaker"), p.logs...)
	args = append(args, engineImage, "sh", "-c", "yes "+line+" | head -n 1000000")
	c := p.client()
	return contender{name: p.name, start: func() error {
		return p.ask(http.MethodGet, "/v1.40/containers/speaker/logs?stdout=1", "", c)
	}}, p.call(args...)
}
