//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// pause is what makes a start a cold one: the kernel's grace periods are over by then.
const pause = 250 * time.Millisecond

// A contender is one of those that are measured against each other.
type contender struct {
	name  string
	start func() error // what is measured
	// before, if set, makes ready what start needs; that is not measured.
	before func() error
}

// A benchmark is a row of the report: the same work done by each contender.
type benchmark struct {
	name       string
	cold       bool
	base       string // the contender that the ratios are to
	contenders []contender
	rounds     int // 0: as many as are asked for
}

// measure returns each contender's times, by round.
func (b *benchmark) measure(rounds int) (map[string][]time.Duration, error) {
	samples := map[string][]time.Duration{}
	warm := 2
	if b.rounds > 0 { // it takes seconds
		warm, rounds = 1, min(rounds, b.rounds)
	}
	for round := range warm + rounds {
		for _, i := range rand.Perm(len(b.contenders)) {
			c := b.contenders[i]
			if c.before != nil {
				if err := c.before(); err != nil {
					return nil, fmt.Errorf("%s: %w", c.name, err)
				}
			}
			if b.cold {
				time.Sleep(pause)
			}
			begin := time.Now()
			err := c.start()
			took := time.Since(begin)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			if round >= warm {
				samples[c.name] = append(samples[c.name], took)
			}
		}
	}
	return samples, nil
}

func (b *benchmark) table(out *strings.Builder, samples map[string][]time.Duration) {
	base := samples[b.base]
	fmt.Fprintf(out, "## %s\n\n| | median | quartiles | least | ratio |\n", b.name)
	fmt.Fprintln(out, "|---|---|---|---|---|")
	for _, c := range b.contenders {
		s := samples[c.name]
		var ratios []float64
		for i := range s {
			if i < len(base) {
				ratios = append(ratios, float64(s[i])/float64(base[i]))
			}
		}
		ms := func(q float64) float64 { return quantile(s, q).Seconds() * 1000 }
		ratio := "–"
		if len(ratios) > 0 {
			ratio = fmt.Sprintf("%.2f", quantile(ratios, 0.5))
		}
		fmt.Fprintf(out, "| %s | %.1f | %.1f – %.1f | %.1f | %s |\n", c.name, ms(0.5), ms(0.25), ms(0.75),
			ms(0), ratio)
	}
	fmt.Fprintln(out)
}

// quantile returns the value that so large a part of the values is below.
func quantile[T time.Duration | float64](values []T, part float64) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(part*float64(len(sorted))), len(sorted)-1)]
}
