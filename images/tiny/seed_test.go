// SPDX-License-Identifier: Apache-2.0

// Package tiny_test runs the scripts that read a seed in the guest, with the shell and the awk of the guest (busybox).
package tiny_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

const lib = "rootfs/usr/lib/tiny/"

// busybox runs an applet with input and returns what it printed. The scripts loop over what they are given, so a hang is
// a result too.
func busybox(t *testing.T, input string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "busybox", args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("busybox %s: %v (is it installed? build/install-deps.sh test)\n%s", args[0], err, out)
	}
	return string(out)
}

func flat(t *testing.T, document string) string {
	t.Helper()
	return busybox(t, document, "awk", "-f", lib+"yaml.awk", "-f", lib+"flat.awk")
}

// shell runs script after the functions of cloud-config.sh.
func shell(t *testing.T, input, script string) string {
	t.Helper()
	return busybox(t, input, "sh", "-c", ". ./"+lib+"cloud-config.sh\n"+script)
}

// parse turns the output of flat.awk into a map.
func parse(t *testing.T, lines string) map[string]string {
	t.Helper()
	values := map[string]string{}
	for line := range strings.Lines(lines) {
		path, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if !ok {
			t.Fatalf("not a path and a value: %q", line)
		}
		values[path] = strings.NewReplacer(`\\`, `\`, `\n`, "\n").Replace(value)
	}
	return values
}

// expected reads the document with a complete YAML reader.
func expected(t *testing.T, document string) map[string]string {
	t.Helper()
	var node yaml.Node
	if err := yaml.Unmarshal([]byte(document), &node); err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	var walk func(path string, n *yaml.Node)
	walk = func(path string, n *yaml.Node) {
		switch {
		case n.Kind == yaml.DocumentNode:
			walk("", n.Content[0])
		case n.Kind == yaml.MappingNode:
			for i := 0; i < len(n.Content); i += 2 {
				walk(strings.TrimPrefix(path+"/"+n.Content[i].Value, "/"), n.Content[i+1])
			}
		case n.Kind == yaml.SequenceNode:
			for i, item := range n.Content {
				walk(strings.TrimPrefix(fmt.Sprintf("%s/%d", path, i+1), "/"), item)
			}
		case n.Tag == "!!null" && n.Value == "":
			// "key:" with nothing behind it: there is no value to print.
		case n.Tag == "!!null":
			values[path] = ""
		default:
			values[path] = n.Value
		}
	}
	walk("", &node)
	return values
}

func TestYAMLIsReadAsACompleteReaderReadsIt(t *testing.T) {
	documents := map[string]string{
		"scalars":                "a: 1\nb: two words\nc: 'it''s'\nd: \"x\\ty\\\\z\\\"\"\ne: http://host:80/x\nf: a#b\n",
		"comments":               "# head\na: 1 # one\n\n  # indented\nb: '#' # two\nc: \"# not\"\n",
		"null":                   "a: null\nb: ~\nc: \nd: 1\n",
		"nested maps":            "a:\n  b:\n    c: 1\n  d: 2\ne: 3\n",
		"list below its key":     "a:\n- 1\n- 2\nb: 3\n",
		"indented list":          "a:\n  - 1\n  - 2\nb: 3\n",
		"list of maps":           "a:\n- b: 1\n  c: 2\n- b: 3\n  d:\n  - 4\n  - 5\ne: 6\n",
		"list of lists":          "a:\n- - 1\n  - 2\n- - 3\nb: 4\n",
		"item on the next line":  "a:\n-\n  b: 1\n-\n  - 2\n",
		"flow":                   "a: [1, \"2, x\", 'y]', {b: c, \"d\": [e]}]\nf: {g: 1, h: [], i: {}}\nj: 2\n",
		"flow over lines":        "a: [1,\n  2, # don't ]\n  '3 # three'\n  ]\nb: {c: 1,\n  d: 2}\n",
		"flow in a list":         "a:\n- [sh, -c, \"echo 'x, y'\"]\n- {b: 1, c: 2}\n- d\n",
		"json":                   "{\"version\": 2, \"e\": {\"n\": {\"a\": [\"1/24\", \"f::1/64\"], \"m\": 1450, \"x\": null}}}",
		"json over lines":        "{\n  \"a\": [\n    \"b\",\n    \"c\"\n  ],\n  \"d\": \"e\"\n}\n",
		"literal":                "a: |\n  one\n    two # kept\n\n  three\nb: 1\n",
		"literal, no newline":    "a: |-\n  one\n  two\n\nb: 1\n",
		"literal, all newlines":  "a: |+\n  one\n\n\nb: 1\n",
		"literal with an indent": "a: |2\n    one\n  two\nb: 1\n",
		"literal in a list":      "a:\n- |\n  one\n    two\n- x\n- b: |\n    three\n  c: 4\n",
		"literal at the end":     "a: |\n  one\n",
		"folded":                 "a: >\n  one\n  two\n\n  three\nb: >-\n  x\n  y\n",
		"plain over lines":       "a: one\n  two\nb: 1\n",
		"quoted keys":            "\"a b\": 1\n'c': 2\n",
		"document start":         "---\na: 1\n",
		"carriage returns":       "a: 1\r\nb:\r\n- 2\r\n",
		"colons in a value":      "a: b:c\nd: 52:54:00:00:00:01\n",
		"no newline at the end":  "a:\n- 1\n- 2",
	}
	for name, document := range documents {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(expected(t, document), parse(t, flat(t, document))); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

func TestMalformedYAMLEnds(t *testing.T) {
	for _, document := range []string{"", "a: [", "a: {b", "a: {,}", "a: [,,]", "a: \"x", "- - -", "{]", "a: |", "}: ]", ":", "a: {b: }x"} {
		t.Run(document, func(t *testing.T) { flat(t, document) })
	}
}

func network(t *testing.T, config string) string {
	t.Helper()
	return busybox(t, config, "awk", "-v", "nics=lo", "-f", lib+"yaml.awk", "-f", lib+"network.awk")
}

func TestNetworkConfigBecomesCommands(t *testing.T) {
	// The MAC is that of lo, the one NIC there is everywhere.
	got := network(t, `
version: 2
ethernets:
  first:
    match: {macaddress: "00:00:00:00:00:00"}
    set-name: eth0
    mtu: 1450
    routes:
    - {to: 0.0.0.0/0, via: 10.0.0.1}
    - to: 10.9.0.0/16
      via: 10.1.1.1
      on-link: true
      metric: 50
    - to: ::/0
      via: fd00::1
    - to: 10.8.0.0/16
      scope: link
    addresses: [10.0.0.2/24, "fd00::2/64"]
    nameservers:
      addresses: [10.96.0.10]
      search: [a.b, "c'd"]
  absent:
    match: {macaddress: "02:00:00:00:00:01"}
    addresses: [10.0.0.3/24]
`)
	want := `echo 'seed: no NIC has the MAC 02:00:00:00:00:01'
ip link set 'lo' name seed1
[ ! -e /sys/class/net/'eth0' ] || ip link set 'eth0' name other1
ip link set seed1 name 'eth0'
ip link set 'eth0' mtu '1450' up
ip address add '10.0.0.2/24' dev 'eth0'
echo 0 >/proc/sys/net/ipv6/conf/'eth0'/accept_dad
ip address add 'fd00::2/64' dev 'eth0'
ip route add '0.0.0.0/0' via '10.0.0.1' dev 'eth0'
ip route add '10.9.0.0/16' via '10.1.1.1' dev 'eth0' onlink metric '50'
ip -6 route add '::/0' via 'fd00::1' dev 'eth0'
ip route add '10.8.0.0/16' dev 'eth0'
printf %s 'nameserver 10.96.0.10
search a.b c'\''d
' >/etc/resolv.conf
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

func TestNetworkConfigOfAnotherVersionIsSaidToBeIgnored(t *testing.T) {
	got := network(t, "version: 1\nconfig: []\n")
	if got != "echo 'seed: network-config is not of version 2, ignored'\n" {
		t.Errorf("got %q", got)
	}
}

func TestRuncmdKeepsEveryArgument(t *testing.T) {
	script := shell(t, flat(t, `
runcmd:
- echo "one  $((1+1))" 'a\b'
- [printf, '%s\n', "it's", 'a "b"', 'c\d', "$HOME; rm"]
- |
  if true; then
    echo three
  fi
`), "commands runcmd")
	want := "one  2 a\\b\nit's\na \"b\"\nc\\d\n$HOME; rm\nthree\n"
	if got := busybox(t, "", "sh", "-c", script); got != want {
		t.Errorf("got %q, want %q, from\n%s", got, want, script)
	}
}

func TestBootcmdAndRuncmdAreToldApart(t *testing.T) {
	config := flat(t, "runcmd:\n- echo once\nbootcmd:\n- echo always\n- [echo, 'a  b']\n")
	for key, want := range map[string]string{"runcmd": "once\n", "bootcmd": "always\na  b\n"} {
		script := shell(t, config, "commands "+key)
		if got := busybox(t, "", "sh", "-c", script); got != want {
			t.Errorf("%s printed %q, want %q, from\n%s", key, got, want, script)
		}
	}
}

func TestWriteFilesKeepsEveryByte(t *testing.T) {
	dir := t.TempDir()
	owner := fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid())
	shell(t, flat(t, fmt.Sprintf(`
write_files:
- path: %[1]s/new folder/plain
  owner: "%[2]s"
  content: |
    a\nb %%s $x 'y'

      last
- content: AAEC/w==
  encoding: b64
  permissions: "0600"
  owner: "%[2]s"
  path: %[1]s/binary
`, dir, owner)), "write_files")
	want := map[string]string{
		"new folder/plain": "-rw-r--r-- a\\nb %s $x 'y'\n\n  last\n",
		"binary":           "-rw------- \x00\x01\x02\xff",
	}
	got := map[string]string{}
	for name := range maps.Keys(want) {
		file := filepath.Join(dir, name)
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		got[name] = info.Mode().String() + " " + string(content)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

func TestPgrepFindsARunningProcessAndFailsWithoutOne(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "busybox", "sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := fmt.Sprint(cmd.Process.Pid)
	// Until the child has executed busybox it carries our name.
	found := busybox(t, "", "sh", "-c", "until grep -q busybox /proc/"+pid+"/comm; do :; done; sh rootfs/usr/bin/pgrep busybox")
	if !strings.Contains("\n"+found, "\n"+pid+"\n") {
		t.Errorf("pgrep busybox printed %q, without %s", found, pid)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	t.Log("the process:", cmd.Wait())
	out := busybox(t, "", "sh", "-c", "sh rootfs/usr/bin/pgrep no-such-thing; echo $?")
	if out != "1\n" {
		t.Errorf("pgrep of nothing printed %q", out)
	}
}
