// SPDX-License-Identifier: Apache-2.0

package deps

// rule says which packages of this module a package may import in product code. A pattern is the path below the
// module, exact or, with a final "/...", that package and all below it.
type rule struct {
	pkg    string
	may    []string
	reason string
}

// leaves know nothing but the standard library and, some of them, each other: everybody may import them.
var leaves = []string{
	"pkg/agentlink/record", "pkg/config", "pkg/crilog", "pkg/failpoint", "pkg/keylock", "pkg/log", "pkg/nearest", "pkg/paths", "pkg/qcow2head", "pkg/qemuconf", "pkg/revert", "pkg/saveimage",
	"pkg/seccomp", "pkg/version",
}

// adapters each speak to one part of the world below: libvirt, CNI, registries, qemu-img, cgroups, files.
var adapters = []string{
	"pkg/cgroup", "pkg/disk", "pkg/guest", "pkg/image", "pkg/libvirt", "pkg/network", "pkg/share", "pkg/store", "pkg/stream",
}

const (
	leafReason    = "a leaf: whatever it imported would be imported by everything"
	adapterReason = "an adapter: it offers one part of the world in the words of pkg/vm, so that it can be read, tested and " +
		"replaced alone. What two adapters need together is a step of pkg/lifecycle; what one needs from above comes as an argument"
	pureReason = "pure: values in, values out, so that golden tests are its whole truth"
)

// rules is the table of docs/architecture.md, section 2. The first rule that fits a package is the package's rule;
// a package that none fits needs one.
var rules = append([]rule{
	{"pkg/vm", nil, "the words that all packages share: it depends on none of them"},
	{"pkg/agentlink/...", []string{"pkg/agentlink/...", "proto/agent/..."}, leafReason},
	{"pkg/config", []string{"pkg/vm", "pkg/paths", "pkg/nearest"}, leafReason},
	{"pkg/crilog", nil, leafReason},
	{"pkg/failpoint", nil, leafReason},
	{"pkg/keylock", nil, leafReason},
	{"pkg/log", nil, leafReason},
	{"pkg/nearest", nil, leafReason},
	{"pkg/paths", nil, leafReason},
	{"pkg/qcow2head", nil, leafReason},
	{"pkg/qemuconf", nil, leafReason},
	{"pkg/revert", []string{"pkg/failpoint"}, leafReason},
	{"pkg/saveimage", nil, leafReason},
	{"pkg/seccomp", nil, leafReason},
	{"pkg/version", nil, leafReason},

	{"pkg/agentlink/cobs", nil, pureReason},
	{"pkg/agentlink/record", []string{"pkg/agentlink/cobs"}, pureReason},
	{"pkg/agentlink/...", []string{"pkg/agentlink/...", "proto/agent/v1"},
		"what vmlet and the agent in the guest both speak: it is linked into the agent, which has little room"},

	{"pkg/annotations", []string{"pkg/vm", "pkg/nearest"}, pureReason},
	{"pkg/cloudinit", []string{"pkg/vm"}, pureReason},
	{"pkg/libvirt/domainxml", []string{"pkg/vm"}, pureReason},

	{"pkg/guest/...", append([]string{"pkg/vm", "pkg/guest/...", "pkg/agentlink/...", "proto/agent/..."}, leaves...), adapterReason},

	{"pkg/lifecycle/lifecycletest", append([]string{"pkg/vm", "pkg/lifecycle"}, leaves...),
		"fakes and contract suites: the real adapters' tests import it, so it imports no adapter"},
	{"pkg/lifecycle", []string{"pkg/vm", "pkg/revert", "pkg/keylock", "pkg/log", "pkg/paths", "pkg/annotations", "pkg/cloudinit"},
		"the use cases: they reach adapters through the interfaces of ports.go only, and speak no wire protocol"},
	{"pkg/doctor", []string{"pkg/vm", "pkg/config", "pkg/paths", "pkg/qemuconf", "pkg/version"},
		"preflight checks: what they ask of an adapter is a small interface of their own"},

	{"pkg/cri", []string{"pkg/vm", "pkg/lifecycle", "pkg/annotations", "pkg/log", "pkg/seccomp", "pkg/streaming", "pkg/version"},
		"handlers: validate, convert, one call of pkg/lifecycle, convert back. An adapter behind its back would skip lock and record"},
	{"pkg/cri/arktos", []string{"pkg/vm", "pkg/cri", "pkg/annotations", "pkg/log", "pkg/nearest", "proto/arktos/v1alpha2"},
		"handlers of a second CRI: they put its words into those of pkg/cri and of the use cases"},
	{"pkg/vmapi", []string{"pkg/vm", "pkg/lifecycle", "pkg/annotations", "pkg/log", "pkg/version", "proto/vmlet/..."},
		"handlers: validate, convert, one call of pkg/lifecycle, convert back. An adapter behind its back would skip lock and record"},
	{"pkg/streaming", []string{"pkg/vm"},
		"the streams of exec, attach and port-forward: their protocols on one side, the use cases as an interface on the other"},
	{"pkg/server", []string{"pkg/vm", "pkg/config", "pkg/log", "pkg/paths", "pkg/version"},
		"sockets and interceptors: handlers are registered on it, it knows none of them"},
	{"proto/...", nil, "generated from .proto files: it depends on nothing of ours"},

	{"cmd/vmletctl/...", []string{"pkg/crilog", "pkg/version", "pkg/paths", "proto/...", "cmd/vmletctl/..."},
		"the CLI speaks gRPC only, so that it shows what every other client sees"},
	{"cmd/vmlet-agent/...", []string{"pkg/agentlink/...", "pkg/version", "proto/agent/v1", "cmd/vmlet-agent/..."},
		"the agent runs in guests: it is small, and knows nothing of the host"},
	{"cmd/vmlet/...", []string{"pkg/...", "proto/..."}, "the daemon's main builds the graph: it alone sees everything"},
	{"images/...", nil, "recipes of guests: what tests them needs nothing of vmlet"},
	{"build/...", nil, "programs that build and check vmlet work without it"},
	{"tests/...", []string{"pkg/...", "proto/...", "tests/..."}, "tests see everything but the mains, which they run"},
}, adapterRules()...)

// adapterRules gives each adapter pkg/vm, the leaves, and what lies in its own folder.
func adapterRules() []rule {
	var rs []rule
	for _, a := range adapters {
		rs = append(rs, rule{a + "/...", append([]string{"pkg/vm", a + "/..."}, leaves...), adapterReason})
	}
	return rs
}

// testOnly may be imported by test files of any package, and by no product code outside tests.
var testOnly = []string{"pkg/agentlink/agentlinktest", "pkg/lifecycle/lifecycletest"}

// testsMay is what the test files of a package may import beyond its rule.
var testsMay = withContracts(map[string][]string{
	// The agent and its host are tested together, as a pair.
	"cmd/vmlet-agent": {"pkg/guest", "pkg/lifecycle", "pkg/vm"},
	"pkg/server":      {"proto/vmlet/v1", "proto/arktos/v1alpha2"},                  // which calls there are, and what each leaves in the log
	"pkg/cri/arktos":  {"pkg/lifecycle", "pkg/store", "pkg/paths", "pkg/streaming"}, // its tests run the real use cases, with runtime.v1 beside it
	"pkg/lifecycle":   {"pkg/store"},                                                // the use cases are tested on real records: what is not stored is not recovered
})

// withContracts lets the tests of adapters name the contracts that they are held to.
func withContracts(may map[string][]string) map[string][]string {
	for _, a := range adapters {
		may[a] = append(may[a], "pkg/lifecycle")
	}
	return may
}

// fence keeps something from outside this module within a few packages. A fence without insiders is a wall.
type fence struct {
	imports string   // an import path, exact or with a final "/..."
	from    string   // the fence holds for these packages; "..." for all
	except  []string // but not for these
	tests   bool     // and holds for test files too
	reason  string
}

// fences are for imports from outside this module, the standard library included.
var fences = []fence{
	{imports: "libvirt.org/go/libvirt", from: "...", except: []string{"pkg/libvirt", "tests/..."}, tests: true,
		reason: "libvirt's calls block without a context and its handles must be freed: one package knows how"},
	{imports: "libvirt.org/go/libvirtxml", from: "...", except: []string{"pkg/libvirt/...", "tests/..."}, tests: true,
		reason: "domain XML is libvirt's language; everybody else says vm.Machine"},
	{imports: "k8s.io/cri-api/...", from: "...", except: []string{"pkg/cri/...", "pkg/server/...", "cmd/...", "tests/..."},
		reason: "the CRI's types end at the handlers, so that a second API can say the same use cases in other words"},
	{imports: "google.golang.org/grpc/...", from: "...",
		except: []string{"pkg/cri/...", "pkg/vmapi/...", "pkg/server/...", "proto/...", "cmd/...", "tests/..."},
		reason: "errors carry errdefs classes; only the edge turns them into gRPC statuses"},
	{imports: "go.etcd.io/bbolt", from: "...", except: []string{"pkg/store/...", "tests/..."}, tests: true,
		reason: "the schema is drawn, migrated and locked in pkg/store"},
	{imports: "github.com/containernetworking/...", from: "...", except: []string{"pkg/network/...", "tests/..."}, tests: true,
		reason: "CNI is pkg/network's"},
	{imports: "os/exec", from: "pkg/cloudinit/...", reason: pureReason},
	{imports: "net/http", from: "pkg/cloudinit/...", reason: pureReason},
	{imports: "os/exec", from: "pkg/annotations/...", reason: pureReason},
	{imports: "net/http", from: "pkg/annotations/...", reason: pureReason},
	{imports: "os", from: "pkg/libvirt/domainxml/...", reason: pureReason},
	{imports: "os/exec", from: "pkg/libvirt/domainxml/...", reason: pureReason},
	{imports: "testing", from: "...", except: []string{"pkg/lifecycle/lifecycletest", "tests/..."},
		reason: "it registers its flags in whatever program imports it"},
}

// wordsMayImport is all that pkg/vm takes from outside the standard library.
var wordsMayImport = []string{"github.com/containerd/errdefs"}
