//go:build linux

package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// part gives what JSON has at a path: "HostConfig.Memory".
func part(t *testing.T, v any, path string) any {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var m any
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	for name := range strings.SplitSeq(path, ".") {
		object, _ := m.(map[string]any)
		m = object[name]
	}
	return m
}

// The flags of run, and what becomes of them in the request: path=JSON. What Docker's own client
// sends was compared with it.
func TestRun_Request(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("FROM_HERE", "here")
	for name, content := range map[string]string{
		"env": "\uFEFF# comment\nA=1\n\n  B=two words\nFROM_HERE\nNOT_HERE\n", "labels": "x=y\nz\n",
		"seccomp.json": "{\n \"defaultAction\": \"SCMP_ACT_ALLOW\"\n}\n", "bad.json": "{",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ args, want string }{
		{"busybox", `Config.Image="busybox"|Config.Cmd=null|HostConfig.NetworkMode="default"|Config.AttachStdin=false|` +
			`Config.AttachStdout=true|Config.AttachStderr=true|Config.StdinOnce=false|HostConfig.RestartPolicy.Name="no"|` +
			`HostConfig.MemorySwappiness=-1|HostConfig.PidsLimit=0|HostConfig.OomKillDisable=false|Config.Entrypoint=null`},
		{"busybox|ls|-l|--rm", `Config.Cmd=["ls","-l","--rm"]|HostConfig.AutoRemove=false`},
		{"--|busybox|-x", `Config.Cmd=["-x"]`},
		{"busybox|--|x", `Config.Cmd=["--","x"]`},
		{"busybox|help", `Config.Cmd=["help"]`},
		{"busybox|", `Config.Cmd=[""]`},
		{"-i|busybox", `Config.OpenStdin=true|Config.AttachStdin=true|Config.StdinOnce=true|Config.Tty=false`},
		{"-a|stdin|-a|STDOUT|busybox", `Config.AttachStdin=true|Config.AttachStdout=true|Config.AttachStderr=false|Config.OpenStdin=false`},
		{"-dit|busybox", `Config.Tty=true|Config.OpenStdin=true|Config.AttachStdin=false|Config.AttachStdout=false`},
		{"--rm=false|--read-only|--init=false|busybox", `HostConfig.AutoRemove=false|HostConfig.ReadonlyRootfs=true|HostConfig.Init=false`},
		{"busybox", `HostConfig.Init=null`},
		{"-e|A=1,2|-e|FROM_HERE|-e|NOT_HERE|-eB= x |busybox", `Config.Env=["A=1,2","FROM_HERE=here","NOT_HERE","B= x "]`},
		{"--env-file|env|-e|A=2|busybox", `Config.Env=["A=1","B=two words","FROM_HERE=here","A=2"]`},
		{"--label-file|labels|-l|a=b=c|--label|d|busybox", `Config.Labels={"x":"y","z":"","a":"b=c","d":""}`},
		{"-h|web|--domainname|d|-u|1:2|-w|/x|--entrypoint|sh|busybox|-c|ls",
			`Config.Hostname="web"|Config.Domainname="d"|Config.User="1:2"|Config.WorkingDir="/x"|Config.Entrypoint=["sh"]|Config.Cmd=["-c","ls"]`},
		{"--entrypoint=|busybox", `Config.Entrypoint=[""]`},
		{"-v|/a:/b|-v|data:/c:ro,z|-v|./x:/d|-v|/anon|busybox",
			`HostConfig.Binds=["/a:/b","data:/c:ro,z","` + dir + `/x:/d"]|Config.Volumes={"/anon":{}}`},
		{"--mount|type=bind,src=/a,dst=/b,readonly|busybox",
			`HostConfig.Mounts=[{"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true}]`},
		{"--mount|type=bind,source=./a,target=/b,bind-propagation=rshared,bind-recursive=disabled,ro=false|busybox",
			`HostConfig.Mounts=[{"Type":"bind","Source":"` + dir + `/a","Target":"/b","BindOptions":{"Propagation":"rshared","NonRecursive":true}}]`},
		{`--mount|src=data,destination=/b,volume-nocopy,volume-label=a=b,volume-driver=local,"volume-opt=o=size=1,uid=2",volume-subpath=s|busybox`,
			`HostConfig.Mounts=[{"Type":"volume","Source":"data","Target":"/b","VolumeOptions":{"NoCopy":true,"Labels":{"a":"b"},` +
				`"Subpath":"s","DriverConfig":{"Name":"local","Options":{"o":"size=1,uid=2"}}}}]`},
		{"--mount|type=tmpfs,target=/t,tmpfs-size=64m,tmpfs-mode=1770|busybox",
			`HostConfig.Mounts=[{"Type":"tmpfs","Target":"/t","TmpfsOptions":{"SizeBytes":67108864,"Mode":1016}}]`},
		{"--tmpfs|/run|--tmpfs|/t:size=1m,exec|busybox", `HostConfig.Tmpfs={"/run":"","/t":"size=1m,exec"}`},
		{"-p|80|-p|8080:81|-p|127.0.0.1:82:83/udp|busybox",
			`HostConfig.PortBindings={"80/tcp":[{"HostIp":"","HostPort":""}],"81/tcp":[{"HostIp":"","HostPort":"8080"}],` +
				`"83/udp":[{"HostIp":"127.0.0.1","HostPort":"82"}]}|Config.ExposedPorts={"80/tcp":{},"81/tcp":{},"83/udp":{}}`},
		{"-p80-81:90-91|busybox", `HostConfig.PortBindings={"90/tcp":[{"HostIp":"","HostPort":"80"}],"91/tcp":[{"HostIp":"","HostPort":"81"}]}`},
		{"-p|8000-8010:80|busybox", `HostConfig.PortBindings={"80/tcp":[{"HostIp":"","HostPort":"8000-8010"}]}`},
		{"-p|[::1]:80:80|-p|127.0.0.1::80|busybox", `HostConfig.PortBindings={"80/tcp":[{"HostIp":"::1","HostPort":"80"},{"HostIp":"127.0.0.1","HostPort":""}]}`},
		{"-p|published=1,target=2,protocol=udp|--expose|7-8|--expose|9/udp|-P|busybox",
			`HostConfig.PortBindings={"2/udp":[{"HostIp":"","HostPort":"1"}]}|HostConfig.PublishAllPorts=true|` +
				`Config.ExposedPorts={"2/udp":{},"7/tcp":{},"8/tcp":{},"9/udp":{}}`},
		{"--network|front|busybox", `HostConfig.NetworkMode="front"|NetworkingConfig.EndpointsConfig={}`},
		{"--net=host|busybox", `HostConfig.NetworkMode="host"`},
		{"--network|front|--network-alias|a|--net-alias|b|--ip|10.0.0.2|--ip6|fd00::2|--mac-address|02:00:00:00:00:01|busybox",
			`NetworkingConfig.EndpointsConfig.front.Aliases=["a","b"]|NetworkingConfig.EndpointsConfig.front.MacAddress="02:00:00:00:00:01"|` +
				`NetworkingConfig.EndpointsConfig.front.IPAMConfig={"IPv4Address":"10.0.0.2","IPv6Address":"fd00::2"}`},
		{"--network|name=front,alias=a,alias=b,ip=10.0.0.2,driver-opt=k=v,gw-priority=3|--network|back|busybox",
			`HostConfig.NetworkMode="front"|NetworkingConfig.EndpointsConfig.front.Aliases=["a","b"]|NetworkingConfig.EndpointsConfig.front.GwPriority=3|` +
				`NetworkingConfig.EndpointsConfig.front.IPAMConfig={"IPv4Address":"10.0.0.2"}|NetworkingConfig.EndpointsConfig.front.DriverOpts={"k":"v"}|` +
				`NetworkingConfig.EndpointsConfig.back.Aliases=null`},
		{"--add-host|a:1.2.3.4|--add-host|b=[::1]|--add-host|c:host-gateway|--dns|1.1.1.1|--dns-search|x|--dns-option|o|--dns-opt|p|busybox",
			`HostConfig.ExtraHosts=["a:1.2.3.4","b:::1","c:host-gateway"]|HostConfig.Dns=["1.1.1.1"]|HostConfig.DnsSearch=["x"]|HostConfig.DnsOptions=["o","p"]`},
		{"-m|64m|--memory-reservation|32m|--memory-swap|-1|--memory-swappiness|0|--oom-kill-disable|--oom-score-adj|-5|busybox",
			`HostConfig.Memory=67108864|HostConfig.MemoryReservation=33554432|HostConfig.MemorySwap=-1|HostConfig.MemorySwappiness=0|` +
				`HostConfig.OomKillDisable=true|HostConfig.OomScoreAdj=-5`},
		{"--cpus|1.5|--cpu-shares|512|--cpu-period|1000|--cpu-quota|2000|--cpuset-cpus|0-1|--cpuset-mems|0|--pids-limit|5|busybox",
			`HostConfig.NanoCpus=1500000000|HostConfig.CpuShares=512|HostConfig.CpuPeriod=1000|HostConfig.CpuQuota=2000|` +
				`HostConfig.CpusetCpus="0-1"|HostConfig.CpusetMems="0"|HostConfig.PidsLimit=5`},
		{"--cpus|.5|busybox", `HostConfig.NanoCpus=500000000`},
		{"--blkio-weight|300|--blkio-weight-device|/dev/sda:400|--device-read-bps|/dev/sda:1mb|--device-write-iops|/dev/sda:9|busybox",
			`HostConfig.BlkioWeight=300|HostConfig.BlkioWeightDevice=[{"Path":"/dev/sda","Weight":400}]|` +
				`HostConfig.BlkioDeviceReadBps=[{"Path":"/dev/sda","Rate":1048576}]|HostConfig.BlkioDeviceWriteIOps=[{"Path":"/dev/sda","Rate":9}]`},
		{"--ulimit|nofile=1024:2048|--ulimit|core=-1|--ulimit|nofile=5|busybox",
			`HostConfig.Ulimits=[{"Name":"core","Hard":-1,"Soft":-1},{"Name":"nofile","Hard":5,"Soft":5}]`},
		{"--device|/dev/fuse|--device|/dev/a:/dev/b|--device|/dev/a:r|--device|/dev/a:/dev/b:rw|--device-cgroup-rule|c 13:* rmw|busybox",
			`HostConfig.Devices=[{"PathOnHost":"/dev/fuse","PathInContainer":"/dev/fuse","CgroupPermissions":"rwm"},` +
				`{"PathOnHost":"/dev/a","PathInContainer":"/dev/b","CgroupPermissions":"rwm"},` +
				`{"PathOnHost":"/dev/a","PathInContainer":"/dev/a","CgroupPermissions":"r"},` +
				`{"PathOnHost":"/dev/a","PathInContainer":"/dev/b","CgroupPermissions":"rw"}]|HostConfig.DeviceCgroupRules=["c 13:* rmw"]`},
		{"--log-driver|json-file|--log-opt|max-size=1m|--log-opt|max-file=3|busybox",
			`HostConfig.LogConfig={"Type":"json-file","Config":{"max-size":"1m","max-file":"3"}}`},
		{"--health-cmd|curl x|--health-interval|1m|--health-timeout|2s|--health-retries|4|--health-start-period|5s|--health-start-interval|6s|busybox",
			`Config.Healthcheck={"Test":["CMD-SHELL","curl x"],"Interval":60000000000,"Timeout":2000000000,"StartPeriod":5000000000,"StartInterval":6000000000,"Retries":4}`},
		{"--no-healthcheck|busybox", `Config.Healthcheck={"Test":["NONE"]}`},
		{"--security-opt|seccomp=seccomp.json|--security-opt|no-new-privileges|--security-opt|apparmor:x|busybox",
			`HostConfig.SecurityOpt=["seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}","no-new-privileges","apparmor:x"]|HostConfig.MaskedPaths=null`},
		{"--security-opt|seccomp=unconfined|--security-opt|systempaths=unconfined|busybox",
			`HostConfig.SecurityOpt=["seccomp=unconfined"]|HostConfig.MaskedPaths=[]|HostConfig.ReadonlyPaths=[]`},
		{"--cap-add|NET_ADMIN|--cap-drop|ALL|--privileged|--group-add|5|--userns|host|--pid|host|--ipc|private|--uts|host|--cgroupns|host|busybox",
			`HostConfig.CapAdd=["NET_ADMIN"]|HostConfig.CapDrop=["ALL"]|HostConfig.Privileged=true|HostConfig.GroupAdd=["5"]|HostConfig.UsernsMode="host"|` +
				`HostConfig.PidMode="host"|HostConfig.IpcMode="private"|HostConfig.UTSMode="host"|HostConfig.CgroupnsMode="host"`},
		{"--restart|on-failure:3|busybox", `HostConfig.RestartPolicy={"Name":"on-failure","MaximumRetryCount":3}`},
		{"--stop-signal|INT|--stop-timeout|0|--shm-size|1g|--sysctl|net.core.somaxconn=9|--storage-opt|size=1G|--volumes-from|x:ro|busybox",
			`Config.StopSignal="INT"|Config.StopTimeout=0|HostConfig.ShmSize=1073741824|HostConfig.Sysctls={"net.core.somaxconn":"9"}|` +
				`HostConfig.StorageOpt={"size":"1G"}|HostConfig.VolumesFrom=["x:ro"]`},
		{"--runtime|minirunc|--cgroup-parent|/p|--annotation|a=b|--umask|0027|--volume-driver|local|busybox",
			`HostConfig.Runtime="minirunc"|HostConfig.CgroupParent="/p"|HostConfig.Annotations={"a":"b"}|HostConfig.Umask=23|HostConfig.VolumeDriver="local"`},
		{"--name|web|--platform|linux/arm64|busybox", `Name="web"|Platform="linux/arm64"`},
	} {
		s := newSession().run(append([]string{"run"}, strings.Split(c.args, "|")...)...)
		if s.status != 0 || s.fake.created == nil {
			t.Errorf("run %s: status %d, %s", c.args, s.status, s.err.String())
			continue
		}
		o := s.fake.created
		request := map[string]any{"Config": o.Config, "HostConfig": o.HostConfig,
			"NetworkingConfig": o.Networking, "Name": o.Name, "Platform": o.Platform}
		for want := range strings.SplitSeq(c.want, "|") {
			path, text, _ := strings.Cut(want, "=")
			var value any
			if err := json.Unmarshal([]byte(text), &value); err != nil {
				t.Fatalf("%s: %v", want, err)
			}
			if got := part(t, request, path); !reflect.DeepEqual(got, value) {
				data, _ := json.Marshal(got)
				t.Errorf("run %s: %s is %s, want %s", c.args, path, data, text)
			}
		}
	}
}

func TestRun_Refused(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for name, content := range map[string]string{
		"env": "A B=1\n", "noname": "=x\n", "utf": "A=\xff\n", "bad.json": "{",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for args, want := range map[string]string{
		"":                                 "requires at least 1 argument",
		"--nonsense|busybox":               "unknown flag: --nonsense",
		"-X|busybox":                       "unknown shorthand flag: 'X' in -X",
		"-iX|busybox":                      "unknown shorthand flag: 'X' in -iX",
		"--name":                           "flag needs an argument: --name",
		"-e":                               "flag needs an argument: 'e' in -e",
		"--rm=maybe|busybox":               `invalid argument "maybe" for "--rm" flag`,
		"--cpu-shares|x|busybox":           `--cpu-shares`,
		"-a|x|busybox":                     "valid streams are STDIN, STDOUT and STDERR",
		"-a|stdin|-d|busybox":              "cannot specify both --attach and --detach",
		"--link|a:b|busybox":               "--network-alias",
		"--gpus|all|busybox":               "--device",
		"-v|a:b:c:d|busybox":               "invalid spec: a:b:c:d: too many colons",
		"-v|:/x|busybox":                   "empty section between colons",
		"--mount|type=bind,src=/a|busybox": "target is required",
		"--mount|bind|busybox":             "invalid field 'bind' must be a key=value pair",
		"--mount|target=/a,x=1|busybox":    "unknown option 'x' in 'x=1'",
		"--mount|target= /a|busybox":       "value should not have whitespace",
		"--mount|target=|busybox":          "value is empty",
		"--mount||busybox":                 "value is empty",
		"--mount|target=/a,ro=2|busybox":   "invalid boolean value",
		"--mount|type=bind,target=/a,volume-nocopy|busybox":              "cannot mix 'volume-*' options with mount type 'bind'",
		"--mount|type=tmpfs,target=/a,tmpfs-size=x|busybox":              "invalid value for tmpfs-size: x",
		"--mount|type=bind,target=/a,bind-recursive=x|busybox":           "invalid value for bind-recursive",
		"--mount|type=bind,target=/a,bind-nonrecursive|busybox":          "use bind-recursive=disabled instead",
		"--mount|type=bind,target=/a,bind-recursive=writable|busybox":    "requires 'readonly'",
		"--mount|type=bind,target=/a,ro,bind-recursive=readonly|busybox": "bind-propagation=rprivate",
		"-p|x|busybox":                                       "invalid containerPort: x",
		"-p|70000:80|busybox":                                "invalid hostPort: 70000",
		"-p|1-3:1-2|busybox":                                 "invalid ranges specified for container and host Ports",
		"-p|300.0.0.1:80:80|busybox":                         "300.0.0.1",
		"-p|80/xyz|busybox":                                  "invalid proto: xyz",
		"--expose|x|busybox":                                 "invalid range format for --expose",
		"--network|name=,ip=1.2.3.4|busybox":                 "network name/id is not specified",
		"--network|name=a,x=y|busybox":                       "invalid field key x",
		"--network|name=a,ip=x|busybox":                      "unable to parse IP",
		"--network|a|--network|a|busybox":                    `network "a" is specified multiple times`,
		"--network|a|--network|host|busybox":                 "cannot attach both user-defined and non-user-defined network-modes",
		"--network|name=a,alias=b|--network-alias|c|busybox": "cannot specify both --network-alias and per-network alias",
		"--network|name=a,ip=1.2.3.4|--ip|1.2.3.4|busybox":   "cannot specify both --ip and per-network IPv4 address",
		"--network-alias|c|busybox":                          "only supported for user-defined networks",
		"--mac-address|x|busybox":                            "x is not a valid mac address",
		"--ulimit|nofile|busybox":                            "invalid ulimit argument: nofile",
		"--device|x|busybox":                                 "x is not an absolute path",
		"--device|/a:/b:x|busybox":                           "bad mode specified: x",
		"--device|/a:b:c:d|busybox":                          "bad format for path",
		"--device-cgroup-rule|x|busybox":                     "invalid device cgroup format 'x'",
		"--device-read-bps|/dev/a:x|busybox":                 "invalid rate for device: /dev/a:x",
		"--device-read-bps|a:1|busybox":                      "bad format for device path",
		"--blkio-weight|5|busybox":                           "blkio-weight",
		"--log-driver|none|--log-opt|a=b|busybox":            "invalid logging opts for driver none",
		"--no-healthcheck|--health-cmd|x|busybox":            "--no-healthcheck conflicts with --health-* options",
		"--health-interval|-1s|busybox":                      "--health-interval cannot be negative",
		"--security-opt|x|busybox":                           `invalid --security-opt: "x"`,
		"--security-opt|seccomp=nix|busybox":                 "opening seccomp profile (nix) failed",
		"--security-opt|seccomp=bad.json|busybox":            "compacting json for seccomp profile",
		"--env-file|nix|busybox":                             "--env-file: open nix",
		"--env-file|env|busybox":                             "variable 'A B' contains whitespaces",
		"--env-file|noname|busybox":                          "no variable name on line '=x'",
		"--env-file|utf|busybox":                             "invalid utf8 bytes at line 1",
		"-e|=x|busybox":                                      "invalid environment variable: =x",
		"-l|a b=c|busybox":                                   "label 'a b' contains whitespaces",
		"--add-host|a|busybox":                               `bad format for add-host: "a"`,
		"--add-host|a:b|busybox":                             `invalid IP address in add-host: "b"`,
		"--dns|x|busybox":                                    "x is not an ip address",
		"-m|x|busybox":                                       "invalid size: 'x'",
		"--cpus|x|busybox":                                   "failed to parse x",
		"--cpus|1.0000000001|busybox":                        "value is too precise",
		"--memory-swappiness|101|busybox":                    "Valid memory swappiness range is 0-100",
		"--sysctl|kernel.hostname=x|busybox":                 "sysctl 'kernel.hostname=x' is not allowed",
		"--pid|x|busybox":                                    "--pid: invalid PID mode",
		"--uts|x|busybox":                                    "--uts: invalid UTS mode",
		"--userns|x|busybox":                                 "--userns: invalid USER mode",
		"--cgroupns|x|busybox":                               "--cgroupns: invalid CGROUP mode",
		"--restart|x|busybox":                                "invalid restart policy: unknown policy 'x'",
		"--restart|on-failure:x|busybox":                     "maximum retry count must be an integer",
		"--restart|always|--rm|busybox":                      "cannot specify both --restart and --rm",
		"--pull|x|busybox":                                   "invalid pull option: 'x'",
		"--umask|9|busybox":                                  "octal",
		"--storage-opt|x|busybox":                            "invalid storage option",
		"-it|busybox":                                        "stdin is not a terminal",
		"-it|--detach-keys|ctrl-1|busybox":                   "stdin is not a terminal",
	} {
		words := strings.Split(args, "|")
		if args == "" {
			words = nil
		}
		s := newSession().run(append([]string{"run"}, words...)...)
		if s.status != 125 || !strings.Contains(s.err.String(), want) || s.out.Len() > 0 || s.fake.calls != nil {
			t.Errorf("run %s: status %d, %s; want 125, …%s…", args, s.status, s.err.String(), want)
		}
	}
}
