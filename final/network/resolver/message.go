//go:build linux

package resolver

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// maxPlainUDP is the size in bytes of an answer by UDP to who did not say that he takes more.
const maxPlainUDP = 512

// ttl is for how many seconds an answer of ours may be kept: containers come and go. Docker's is
// 600, which outlives most.
const ttl = 5

// own returns our answer to a question; ask says that it is for others to answer. An answer that
// is too long for UDP is cut, and says so; then the client asks by TCP.
func own(names Names, udp bool, question []byte) (answer []byte, ask bool) {
	var p dnsmessage.Parser
	header, err := p.Start(question)
	if err != nil || header.Response {
		return nil, false // an answer to that could be answered, and so on for ever
	}
	q, err := p.Question()
	if err != nil {
		return reply(header, nil, nil, dnsmessage.RCodeFormatError), false
	}
	if header.OpCode != 0 || q.Class != dnsmessage.ClassINET {
		return nil, true
	}
	resources, known := find(names, q)
	if !known {
		return nil, true
	}
	answer = reply(header, &q, resources, dnsmessage.RCodeSuccess)
	if udp && len(answer) > maxPlainUDP {
		header.Truncated = true
		answer = reply(header, &q, nil, dnsmessage.RCodeSuccess)
	}
	return answer, false
}

// find returns the records that answer q. With known and no records the name has other kinds
// only, and nobody else is to be asked: they would say that there is no such name.
func find(names Names, q dnsmessage.Question) (found []dnsmessage.Resource, known bool) {
	header := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: ttl}
	name := strings.TrimSuffix(q.Name.String(), ".")
	if q.Type == dnsmessage.TypePTR {
		address, ok := reverseAddress(name)
		if !ok {
			return nil, false
		}
		host, err := dnsmessage.NewName(names.Reverse(address) + ".")
		if err != nil || host.Length == 1 {
			return nil, false
		}
		return []dnsmessage.Resource{{Header: header, Body: &dnsmessage.PTRResource{PTR: host}}}, true
	}
	addresses, known := names.Lookup(name)
	for _, a := range addresses {
		switch {
		case q.Type == dnsmessage.TypeA && a.Is4():
			found = append(found, dnsmessage.Resource{
				Header: header, Body: &dnsmessage.AResource{A: a.As4()},
			})
		case q.Type == dnsmessage.TypeAAAA && a.Is6():
			found = append(found, dnsmessage.Resource{
				Header: header, Body: &dnsmessage.AAAAResource{AAAA: a.As16()},
			})
		}
	}
	return found, known
}

// reverseAddress reads the name of an address: 2.0.17.172.in-addr.arpa, or 32 digits of ip6.arpa.
func reverseAddress(name string) (netip.Addr, bool) {
	name = strings.ToLower(name)
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		parts := strings.Split(rest, ".")
		slices.Reverse(parts)
		a, err := netip.ParseAddr(strings.Join(parts, "."))
		return a, err == nil && a.Is4()
	}
	rest, ok := strings.CutSuffix(name, ".ip6.arpa")
	digits := []byte(strings.ReplaceAll(rest, ".", ""))
	if !ok || len(rest) != 63 || len(digits) != 32 {
		return netip.Addr{}, false
	}
	slices.Reverse(digits)
	var a [16]byte
	_, err := hex.Decode(a[:], digits)
	return netip.AddrFrom16(a), err == nil
}

// reply builds an answer. What cannot be built (a name that no message can have) is none.
func reply(header dnsmessage.Header, q *dnsmessage.Question, resources []dnsmessage.Resource,
	code dnsmessage.RCode,
) []byte {
	m := dnsmessage.Message{Header: dnsmessage.Header{
		ID: header.ID, Response: true, OpCode: header.OpCode, RCode: code,
		Truncated: header.Truncated, RecursionDesired: header.RecursionDesired,
		RecursionAvailable: true,
	}, Answers: resources}
	if q != nil {
		m.Questions = []dnsmessage.Question{*q}
	}
	packed, err := m.Pack()
	if err != nil {
		return nil
	}
	return packed
}

// failure says that nobody could be asked.
func failure(question []byte) []byte {
	var p dnsmessage.Parser
	header, err := p.Start(question)
	if err != nil {
		return nil
	}
	header.Truncated = false
	if q, err := p.Question(); err == nil {
		return reply(header, &q, nil, dnsmessage.RCodeServerFailure)
	}
	return reply(header, nil, nil, dnsmessage.RCodeServerFailure)
}

// answers says whether a message is the answer to a question, and not one to somebody else's: the
// socket is connected, so it is from the right server, but it may be late.
func answers(answer, question []byte) bool {
	var a, q dnsmessage.Parser
	theirs, err := a.Start(answer)
	if err != nil || !theirs.Response {
		return false
	}
	ours, err := q.Start(question)
	return err == nil && theirs.ID == ours.ID
}
