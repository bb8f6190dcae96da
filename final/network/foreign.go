//go:build linux

package network

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// In nftables what one table accepts another may still drop. Docker, and some who want no router,
// set the policy of the chain FORWARD to drop: there go two rules for each bridge, first of all.
// They only say that our own table decides.

// acceptForward adds the rules to all chains that drop what is forwarded unless told otherwise.
func acceptForward(bridge string) error {
	chains, err := droppingChains()
	if err != nil {
		return err
	}
	if err := removeForward(bridge); err != nil {
		return err
	}
	nft, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	for _, c := range chains {
		for _, key := range []expr.MetaKey{expr.MetaKeyOIFNAME, expr.MetaKeyIIFNAME} {
			nft.InsertRule(&nftables.Rule{
				Table: c.Table, Chain: c,
				Exprs: []expr.Any{
					&expr.Meta{Key: key, Register: 1},
					&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: interfaceName(bridge)},
					&expr.Counter{}, // without one iptables does not take it for a rule of its own
					&expr.Verdict{Kind: expr.VerdictAccept},
				},
				UserData: forwardMark(bridge),
			})
		}
	}
	if err := nft.Flush(); err != nil {
		return fmt.Errorf("accept what bridge %s forwards: %w", bridge, err)
	}
	return legacyForward(bridge, true)
}

// removeForward removes them, wherever they are.
func removeForward(bridge string) error {
	nft, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	chains, err := nft.ListChains()
	if err != nil {
		return fmt.Errorf("list chains: %w", err)
	}
	for _, c := range chains {
		if !forwards(c) {
			continue
		}
		list, err := nft.GetRules(c.Table, c)
		if err != nil {
			return fmt.Errorf("list rules of %s: %w", c.Name, err)
		}
		for _, r := range list {
			if string(r.UserData) != string(forwardMark(bridge)) {
				continue
			}
			r.Chain = c
			if err := nft.DelRule(r); err != nil {
				return fmt.Errorf("delete rule of %s: %w", c.Name, err)
			}
		}
	}
	if err := nft.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete rules of bridge %s: %w", bridge, err)
	}
	return legacyForward(bridge, false)
}

func droppingChains() ([]*nftables.Chain, error) {
	nft, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	all, err := nft.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	var dropping []*nftables.Chain
	for _, c := range all {
		if forwards(c) && c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
			dropping = append(dropping, c)
		}
	}
	return dropping, nil
}

// forwards says whether another's chain sees what is forwarded.
func forwards(c *nftables.Chain) bool {
	family := c.Table.Family
	return c.Type == nftables.ChainTypeFilter && c.Table.Name != tableName &&
		c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookForward &&
		(family == nftables.TableFamilyIPv4 || family == nftables.TableFamilyIPv6 ||
			family == nftables.TableFamilyINet)
}

func interfaceName(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

// forwardMark is how a rule of ours is found again: a comment, as nft's library writes it, a type,
// a length, and the text with a zero behind it.
func forwardMark(bridge string) []byte {
	text := "minidocker " + bridge + "\x00"
	return append([]byte{0, byte(len(text))}, text...)
}

// legacyForward does the same by iptables-legacy, where its tables are in use: nftables does not
// see them.
func legacyForward(bridge string, add bool) error {
	for _, version := range []struct{ tool, tables string }{
		{"iptables-legacy", "/proc/net/ip_tables_names"},
		{"ip6tables-legacy", "/proc/net/ip6_tables_names"},
	} {
		tables, err := readLines(version.tables)
		if err != nil || !slices.Contains(tables, "filter") {
			continue
		}
		out, err := exec.Command(version.tool, "-S", "FORWARD").Output()
		if err != nil {
			continue // without the tool nobody has set a policy
		}
		for _, direction := range []string{"-i", "-o"} {
			rule := []string{"FORWARD", direction, bridge, "-j", "ACCEPT"}
			there := strings.Contains(string(out), "-A "+strings.Join(rule, " ")+"\n")
			command := "-I"
			if !add {
				command = "-D"
			}
			drops := strings.Contains(string(out), "-P FORWARD DROP")
			if there == add || (add && !drops) {
				continue
			}
			args := append([]string{"--wait", command}, rule...)
			if text, err := exec.Command(version.tool, args...).CombinedOutput(); err != nil {
				return fmt.Errorf("%s %s: %w: %s", version.tool, command, err, text)
			}
		}
	}
	return nil
}
