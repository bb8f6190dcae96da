package request

import (
	stdbytes "bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/moby/moby/api/types/container"
)

// security is --security-opt, --sysctl and --storage-opt. A seccomp profile goes to the engine by
// its content, since the engine may not see this folder; systempaths=unconfined is the one option
// that it never hears of.
func security(h *container.HostConfig, f Flags) error {
	for _, option := range f.StringSlice("security-opt") {
		if option == "systempaths=unconfined" {
			h.MaskedPaths, h.ReadonlyPaths = []string{}, []string{}
			continue
		}
		option, err := securityOption(option)
		if err != nil {
			return err
		}
		h.SecurityOpt = append(h.SecurityOpt, option)
	}
	sysctls, err := each(f, "sysctl", sysctl)
	if err != nil {
		return err
	}
	h.Sysctls = Pairs(sysctls)
	for _, option := range f.StringSlice("storage-opt") {
		if !strings.Contains(option, "=") {
			return errors.New("invalid storage option")
		}
	}
	h.StorageOpt = Pairs(f.StringSlice("storage-opt"))
	return nil
}

func securityOption(option string) (string, error) {
	key, value, ok := strings.Cut(option, "=")
	if !ok && key != "no-new-privileges" {
		key, value, ok = strings.Cut(option, ":") // as it was once written
	}
	if (!ok || value == "") && key != "no-new-privileges" {
		return "", fmt.Errorf("invalid --security-opt: %q", option)
	}
	if key != "seccomp" || value == "unconfined" || value == "builtin" {
		return option, nil
	}
	content, err := os.ReadFile(value)
	if err != nil {
		return "", fmt.Errorf("opening seccomp profile (%s) failed: %w", value, err)
	}
	var compact stdbytes.Buffer
	if err := json.Compact(&compact, content); err != nil {
		return "", fmt.Errorf("compacting json for seccomp profile (%s) failed: %w", value, err)
	}
	return "seccomp=" + compact.String(), nil
}

// sysctl lets through those of namespaces that a container has for itself.
func sysctl(s string) (string, error) {
	name, _, ok := strings.Cut(s, "=")
	if !ok {
		return "", fmt.Errorf("sysctl '%s' is not allowed", s)
	}
	switch name {
	case "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall",
		"kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced":
		return s, nil
	}
	if strings.HasPrefix(name, "net.") || strings.HasPrefix(name, "fs.mqueue.") {
		return s, nil
	}
	return "", fmt.Errorf("sysctl '%s' is not allowed", s)
}
