//go:build linux

package resolver

import "context"

// Answer is what is answered without servers to ask.
func Answer(names Names, question []byte) []byte {
	return (&server{names: names}).answer(context.Background(), "udp", question)
}
