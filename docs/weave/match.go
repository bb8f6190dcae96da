package main

import "strings"

// wildcard stands for any text in a line, or alone on one for any number of lines.
const wildcard = "…"

// trimOutput takes the blanks away that do not count: at the ends of lines, and blank
// lines at the end.
func trimOutput(lines []string) []string {
	var trimmed []string
	end := 0
	for _, line := range lines {
		line = strings.TrimRight(line, " \t\r")
		trimmed = append(trimmed, line)
		if line != "" {
			end = len(trimmed)
		}
	}
	return trimmed[:end]
}

// matchLine says whether a line of output is what the author expects.
func matchLine(want, got string) bool {
	parts := strings.Split(want, wildcard)
	if len(parts) == 1 {
		return want == got
	}
	got, ok := strings.CutPrefix(got, parts[0])
	if !ok {
		return false
	}
	last := parts[len(parts)-1]
	for _, part := range parts[1 : len(parts)-1] {
		_, after, found := strings.Cut(got, part)
		if !found {
			return false
		}
		got = after
	}
	return strings.HasSuffix(got, last)
}

func anyLines(want string) bool { return strings.TrimSpace(want) == wildcard }

// move is a step of an alignment of expected and real output.
type move byte

const (
	match   move = iota // the real line is as expected
	absorb              // the wildcard line stands for the real line
	pass                // the wildcard line stands for no more lines
	replace             // the real line is in the place of the expected one
	insert              // the real line is one too many
	lose                // the expected line is missing
)

// pair is a move, with the index of the expected line and of the real line.
type pair struct {
	how       move
	want, got int
}

// align puts expected and real output side by side, with as many lines as expected as
// there can be. The second result says whether all are.
func align(want, got []string) ([]pair, bool) {
	// gain[j] is what aligning want[i:] with got[j:] gains; below is that of want[i+1:].
	below := make([]int, len(got)+1)
	moves := make([][]move, len(want)+1)
	for i := len(want); i >= 0; i-- {
		gain := make([]int, len(got)+1)
		moves[i] = make([]move, len(got)+1)
		for j := len(got); j >= 0; j-- {
			gain[j], moves[i][j] = bestMove(want[i:], got[j:], gain[j:], below[j:])
		}
		below = gain
	}
	var pairs []pair
	good := true
	for i, j := 0, 0; i < len(want) || j < len(got); {
		how := moves[i][j]
		pairs = append(pairs, pair{how, i, j})
		good = good && how <= pass
		if how != absorb && how != insert {
			i++
		}
		if how != pass && how != lose {
			j++
		}
	}
	return pairs, good
}

// bestMove chooses the first move for want and got. A line as expected is worth most;
// a line in the place of another is better than one missing and one too many.
func bestMove(want, got []string, gain, below []int) (best int, how move) {
	if len(want) == 0 && len(got) == 0 {
		return 0, pass
	}
	best = -1 << 30
	try := func(total int, m move) {
		if total > best {
			best, how = total, m
		}
	}
	wild := len(want) > 0 && anyLines(want[0])
	both := len(want) > 0 && len(got) > 0 && !wild
	if both && matchLine(want[0], got[0]) {
		try(below[1]+3, match)
	}
	if wild && len(got) > 0 {
		try(gain[1], absorb)
	}
	if wild {
		try(below[0], pass)
	}
	if both {
		try(below[1]+1, replace)
	}
	if len(got) > 0 {
		try(gain[1]-1, insert)
	}
	if len(want) > 0 && !wild {
		try(below[0]-1, lose)
	}
	return best, how
}

// keep is the new expected output: the author's lines that still match, else the real.
func keep(want, got []string, pairs []pair) []string {
	var lines []string
	for _, p := range pairs {
		switch p.how {
		case match, pass:
			lines = append(lines, want[p.want])
		case replace, insert:
			lines = append(lines, got[p.got])
		}
	}
	return lines
}

// outputDiff shows expected and real output as a diff.
func outputDiff(want, got []string, pairs []pair) []string {
	var lines, more []string // more are added lines, to stand below the missing ones
	for _, p := range pairs {
		switch p.how {
		case match, pass:
			lines = append(append(lines, more...), "  "+want[p.want])
			more = nil
		case replace, lose:
			lines = append(lines, "- "+want[p.want])
		}
		if p.how == replace || p.how == insert {
			more = append(more, "+ "+got[p.got])
		}
	}
	return append(lines, more...)
}
