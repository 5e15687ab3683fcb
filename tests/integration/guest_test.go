// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
	"github.com/vmlet/vmlet/tests/harness"
)

// guestKey is nobody's.
const guestKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA nobody"

// insider makes the calls on one guest.
type insider struct {
	t    *testing.T
	node *harness.Node
	pod  *harness.Running
}

func (i insider) put(first *vmletv1.WriteGuestFileRequest, content io.Reader) error {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(i.t.Context(), time.Minute)
	defer cancel()
	first.Vm = i.pod.SandboxID
	stream, err := i.node.VMs.WriteGuestFile(ctx)
	if err != nil {
		return err
	}
	err = stream.Send(first)
	for buf := make([]byte, 1<<20); err == nil; {
		n, readErr := content.Read(buf)
		if n > 0 {
			err = stream.Send(&vmletv1.WriteGuestFileRequest{Chunk: buf[:n]})
		}
		if errors.Is(readErr, io.EOF) {
			break
		}
	}
	_, err = stream.CloseAndRecv()
	return err
}

func (i insider) get(path string, to io.Writer) (*vmletv1.GuestFile, error) {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(i.t.Context(), time.Minute)
	defer cancel()
	stream, err := i.node.VMs.ReadGuestFile(ctx, &vmletv1.ReadGuestFileRequest{Vm: i.pod.SandboxID, Path: path})
	if err != nil {
		return nil, err
	}
	var file *vmletv1.GuestFile
	for {
		msg, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return file, nil
		}
		if err != nil {
			return nil, err
		}
		if msg.GetFile() != nil {
			file = msg.GetFile()
		}
		if _, err := to.Write(msg.GetChunk()); err != nil {
			return nil, err
		}
	}
}

func (i insider) keys(mode vmletv1.AuthorizedKeysMode, keys ...string) error {
	i.t.Helper()
	_, err := i.node.VMs.SetAuthorizedKeys(i.t.Context(), &vmletv1.SetAuthorizedKeysRequest{Vm: i.pod.SandboxID, User: "default-user", Keys: keys, Mode: mode})
	return err
}

// home gives the image's user a home.
func (i insider) home() {
	i.t.Helper()
	i.pod.Exec("sh", "-c", "mkdir -p /home/default-user && chown default-user /home/default-user && rm -rf /home/default-user/.ssh")
}

// info asks the guest about itself, and holds that against what is known otherwise.
func (i insider) info(agent vmletv1.GuestAgent, boot string) {
	t := i.t
	t.Helper()
	got, err := i.node.VMs.GuestInfo(t.Context(), &vmletv1.GuestInfoRequest{Vm: i.pod.SandboxID})
	if err != nil {
		t.Fatal(err)
	}
	if got.GetAgent() != agent || got.GetAgentVersion() == "" || got.GetBootId() != boot || got.GetUptimeMs() <= 0 || len(got.GetUnknownFields()) != 0 {
		t.Errorf("got %v", got)
	}
	if uname := i.pod.Exec("uname", "-rm"); uname != got.GetOs().GetKernelRelease()+" "+got.GetOs().GetMachine() {
		t.Errorf("got %v, uname says %s", got.GetOs(), uname)
	}
	if got.GetOs().GetId() == "" || got.GetHostname() != i.pod.Exec("hostname") {
		t.Errorf("got %v", got)
	}
	if clock := time.Unix(0, got.GetClockUnixNs()); time.Since(clock).Abs() > time.Hour {
		t.Errorf("its clock says %s", clock)
	}
	root := slices.IndexFunc(got.GetFilesystems(), func(f *vmletv1.GuestFilesystem) bool { return f.GetMountPoint() == "/" })
	if root < 0 || got.GetFilesystems()[root].GetType() != "ext4" || got.GetFilesystems()[root].GetUsedBytes() <= 0 || got.GetFilesystems()[root].GetUsedBytes() >= got.GetFilesystems()[root].GetTotalBytes() {
		t.Errorf("file systems %v", got.GetFilesystems())
	}
	nic := slices.IndexFunc(got.GetInterfaces(), func(n *vmletv1.GuestInterface) bool {
		return n.GetMac() != "" && slices.ContainsFunc(n.GetAddresses(), func(a string) bool { return strings.HasPrefix(a, i.pod.IP+"/") })
	})
	if nic < 0 || !strings.Contains(harness.Virsh(t, "domiflist", i.pod.DomainName()), got.GetInterfaces()[nic].GetMac()) {
		t.Errorf("%s is on none of %v", i.pod.IP, got.GetInterfaces())
	}
}

// password sets it, and looks that it is nowhere but in the guest's files, where it is hashed.
func (i insider) password() {
	t := i.t
	t.Helper()
	const secret = "Sesame-0pen:thyself"
	set := func(password string, crypted bool) error {
		_, err := i.node.VMs.SetGuestPassword(t.Context(), &vmletv1.SetGuestPasswordRequest{Vm: i.pod.SandboxID, User: "root", Password: password, Crypted: crypted})
		return err
	}
	if err := set(secret, false); err != nil {
		t.Fatal(err)
	}
	line := i.pod.Exec("grep", "^root:", "/etc/shadow")
	fields := strings.Split(line, "$")
	if len(fields) != 4 || fields[1] != "6" || i.pod.Exec("mkpasswd", "-m", "sha512", "-S", fields[2], secret) != strings.TrimPrefix(strings.Split(line, ":")[1], "") {
		t.Errorf("/etc/shadow has %s", line)
	}
	if err := set("$6$salt$hash", true); err != nil {
		t.Error(err)
	}
	if line := i.pod.Exec("grep", "^root:", "/etc/shadow"); !strings.HasPrefix(line, "root:$6$salt$hash:") {
		t.Errorf("/etc/shadow has %s", line)
	}
	log, err := os.ReadFile(i.node.DaemonLog())
	if err != nil || bytes.Contains(log, []byte(secret)) || bytes.Contains(log, []byte("$6$salt$hash")) {
		t.Errorf("it is in the log, %v", err)
	}
	if !bytes.Contains(log, []byte("VMService/SetGuestPassword")) {
		t.Error("the log does not tell who has set it")
	}
}

// TestGuestCalls are made on a real guest, and looked at from within it.
func TestGuestCalls(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{Name: "inside"})
	i := insider{t, node, pod}
	// Also while it boots.
	if err := i.put(&vmletv1.WriteGuestFileRequest{Path: "/early"}, strings.NewReader("early")); err != nil {
		t.Fatal(err)
	}
	boot := pod.WaitReady()
	i.info(vmletv1.GuestAgent_GUEST_AGENT_VMLET, boot)
	t.Run("a large file passes through little memory", i.with(large))
	t.Run("a file takes only the place that it is to have", i.with(places))
	t.Run("keys are the user's, and lead nowhere", i.with(keysInside))
	i.password()
	t.Run("killed in the middle of a write", i.with(killedInAWrite))
	if _, err := node.VMs.Pause(t.Context(), &vmletv1.PauseRequest{Vm: pod.SandboxID}); err != nil {
		t.Fatal(err)
	}
	if _, err := i.get("/early", io.Discard); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "paused") {
		t.Errorf("of a paused VM: %v", err)
	}
}

func (i insider) with(test func(insider)) func(*testing.T) {
	return func(t *testing.T) { test(insider{t, i.node, i.pod}) }
}

// peak is the most memory that a process has had, in bytes, by the text of its /proc/PID/status.
func peak(t *testing.T, text string) int64 {
	t.Helper()
	_, after, _ := strings.Cut(text, "VmHWM:")
	kib, err := strconv.ParseInt(strings.Fields(after + " none")[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

func large(i insider) {
	const size = 32 << 20
	host := func() int64 {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", i.node.PID()))
		if err != nil {
			i.t.Fatal(err)
		}
		return peak(i.t, string(text))
	}
	guest := func() int64 {
		return peak(i.t, i.pod.Exec("sh", "-c", "cat /proc/$(pidof vmlet-agent)/status"))
	}
	hostBefore, guestBefore := host(), guest()
	content := io.LimitReader(rand.NewChaCha8([32]byte{1}), size)
	sent, got := sha256.New(), sha256.New()
	began := time.Now()
	if err := i.put(&vmletv1.WriteGuestFileRequest{Path: "/large"}, io.TeeReader(content, sent)); err != nil {
		i.t.Fatal(err)
	}
	i.t.Logf("%d MiB written in %s", size>>20, time.Since(began))
	want := fmt.Sprintf("%x", sent.Sum(nil))
	if sum := i.pod.Exec("sha256sum", "/large"); !strings.HasPrefix(sum, want) {
		i.t.Errorf("the guest has %s, want %s", sum, want)
	}
	began = time.Now()
	file, err := i.get("/large", got)
	i.t.Logf("and read in %s", time.Since(began))
	if err != nil || file.GetSizeBytes() != size || fmt.Sprintf("%x", got.Sum(nil)) != want {
		i.t.Errorf("%v, %v, %x", file, err, got.Sum(nil))
	}
	i.t.Logf("the daemon's peak grew by %d KiB, the agent's by %d KiB", (host()-hostBefore)>>10, (guest()-guestBefore)>>10)
	if host()-hostBefore > size/2 || guest()-guestBefore > size/4 {
		i.t.Error("it was held in memory")
	}
	i.pod.Exec("rm", "/large")
}

func places(i insider) {
	i.pod.Exec("sh", "-c", "mkdir /d && ln -s /etc/passwd /d/link && mkfifo /d/pipe && echo old >/d/file")
	mode := uint32(0o4711)
	full := &vmletv1.WriteGuestFileRequest{Path: "/d/new/file", Mode: &mode, Uid: 1000, Gid: 1000, Parents: true}
	if err := i.put(full, strings.NewReader("new")); err != nil {
		i.t.Fatal(err)
	}
	if got := i.pod.Exec("stat", "-c", "%a %u %g %s", "/d/new/file"); got != "4711 1000 1000 3" {
		i.t.Errorf("it is %s", got)
	}
	for path, want := range map[string]codes.Code{
		"/d/link": codes.FailedPrecondition, "/d/pipe": codes.FailedPrecondition, "/d": codes.FailedPrecondition, "/no/file": codes.NotFound,
	} {
		err := i.put(&vmletv1.WriteGuestFileRequest{Path: path, Overwrite: true}, strings.NewReader("x"))
		if status.Code(err) != want {
			i.t.Errorf("write %s: %v", path, err)
		}
		if _, err := i.get(path, io.Discard); path != "/d/link" && status.Code(err) != want {
			i.t.Errorf("read %s: %v", path, err)
		}
	}
	if err := i.put(&vmletv1.WriteGuestFileRequest{Path: "/d/file"}, strings.NewReader("new")); status.Code(err) != codes.AlreadyExists {
		i.t.Errorf("got %v", err)
	}
	var kernels bytes.Buffer
	if _, err := i.get("/proc/version", &kernels); err != nil || !strings.HasPrefix(kernels.String(), "Linux version ") {
		i.t.Errorf("%s, %v", &kernels, err)
	}
	if got := i.pod.Exec("sh", "-c", "cat /d/file; ls -A /d"); got != "old\nfile\nlink\nnew\npipe" {
		i.t.Errorf("the folder has %s", got)
	}
}

func keysInside(i insider) {
	const add, replace = vmletv1.AuthorizedKeysMode_AUTHORIZED_KEYS_MODE_ADD, vmletv1.AuthorizedKeysMode_AUTHORIZED_KEYS_MODE_REPLACE
	i.home()
	if err := i.keys(add, guestKey); err != nil {
		i.t.Fatal(err)
	}
	if got := i.pod.Exec("sh", "-c", "cd /home/default-user && stat -c '%a %u' .ssh .ssh/authorized_keys && cat .ssh/authorized_keys"); got != "700 1000\n600 1000\n"+guestKey {
		i.t.Errorf("it has %s", got)
	}
	got, err := i.node.VMs.GetAuthorizedKeys(i.t.Context(), &vmletv1.GetAuthorizedKeysRequest{Vm: i.pod.SandboxID, User: "default-user"})
	if err != nil || !slices.Equal(got.GetKeys(), []string{guestKey}) {
		i.t.Errorf("%v, %v", got, err)
	}
	i.pod.Exec("sh", "-c", "cd /home/default-user && rm -r .ssh && ln -s /etc .ssh")
	if err := i.keys(replace, guestKey); status.Code(err) != codes.FailedPrecondition {
		i.t.Errorf("out of the home: %v", err)
	}
	if left := i.pod.Exec("sh", "-c", "ls -A /etc | grep -e authorized -e vmlet || true"); left != "" {
		i.t.Errorf("/etc has %s", left)
	}
}

// killedInAWrite: what was half written is gone, what was there is there, and the write can be made again.
func killedInAWrite(i insider) {
	i.pod.Exec("sh", "-c", "mkdir /half && echo old >/half/file")
	stream, err := i.node.VMs.WriteGuestFile(i.t.Context())
	if err != nil {
		i.t.Fatal(err)
	}
	first := &vmletv1.WriteGuestFileRequest{Vm: i.pod.SandboxID, Path: "/half/file", Overwrite: true, Chunk: make([]byte, 1<<20)}
	if err := stream.Send(first); err != nil {
		i.t.Fatal(err)
	}
	entries := func() string { return i.pod.Exec("ls", "-A", "/half") }
	i.node.Eventually(time.Minute, func() error {
		if got := entries(); !strings.Contains(got, ".vmlet-") {
			return fmt.Errorf("the folder has %s", got)
		}
		return nil
	})
	i.node.Kill9()
	i.node.Start()
	i.node.Eventually(time.Minute, func() error {
		if got := entries(); got != "file" {
			return fmt.Errorf("the folder has %s", got)
		}
		return nil
	})
	if got := i.pod.Exec("cat", "/half/file"); got != "old" {
		i.t.Errorf("it is %s", got)
	}
	if err := i.put(&vmletv1.WriteGuestFileRequest{Path: "/half/file", Overwrite: true}, strings.NewReader("new")); err != nil {
		i.t.Error(err)
	}
	if got := i.pod.Exec("cat", "/half/file"); got != "new" {
		i.t.Errorf("it is %s", got)
	}
}

// TestGuestCallsWithoutOurAgent go by qemu-guest-agent, as far as that can.
func TestGuestCallsWithoutOurAgent(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{Name: "qga", Image: node.PullQGAImage(), Annotations: map[string]string{"vmlet.io/guest-agent": "qga"}})
	i := insider{t, node, pod}
	i.info(vmletv1.GuestAgent_GUEST_AGENT_QEMU, pod.WaitReady())
	content := strings.Repeat("0123456789", 10<<10)
	mode := uint32(0o640)
	first := &vmletv1.WriteGuestFileRequest{Path: "/root/new/file", Mode: &mode, Uid: 1000, Gid: 1000, Parents: true}
	began := time.Now()
	if err := i.put(first, strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d KiB written in %s", len(content)>>10, time.Since(began))
	if got := pod.Exec("sh", "-c", "stat -c '%a %u %g %s' /root/new/file; ls -A /root/new"); got != "640 1000 1000 102400\nfile" {
		t.Errorf("it is %s", got)
	}
	var got strings.Builder
	if file, err := i.get("/root/new/file", &got); err != nil || got.String() != content || file.GetMode() != 0o640 || file.GetUid() != 1000 {
		t.Errorf("%d bytes, %v, %v", got.Len(), file, err)
	}
	if err := i.put(first, strings.NewReader("x")); status.Code(err) != codes.AlreadyExists {
		t.Errorf("got %v", err)
	}
	i.home()
	for _, step := range []struct {
		mode vmletv1.AuthorizedKeysMode
		want []string
	}{
		{vmletv1.AuthorizedKeysMode_AUTHORIZED_KEYS_MODE_ADD, []string{guestKey}},
		{vmletv1.AuthorizedKeysMode_AUTHORIZED_KEYS_MODE_ADD, []string{guestKey}},
		{vmletv1.AuthorizedKeysMode_AUTHORIZED_KEYS_MODE_REMOVE, nil},
		{vmletv1.AuthorizedKeysMode_AUTHORIZED_KEYS_MODE_REPLACE, []string{guestKey}},
	} {
		if err := i.keys(step.mode, guestKey); err != nil {
			t.Fatalf("%s: %v", step.mode, err)
		}
		got, err := node.VMs.GetAuthorizedKeys(t.Context(), &vmletv1.GetAuthorizedKeysRequest{Vm: pod.SandboxID, User: "default-user"})
		if err != nil || !slices.Equal(got.GetKeys(), step.want) {
			t.Errorf("%s: %v, %v", step.mode, got, err)
		}
	}
	if got := pod.Exec("sh", "-c", "cd /home/default-user && stat -c '%a %u' .ssh .ssh/authorized_keys; ls -A .ssh"); got != "700 1000\n600 1000\nauthorized_keys" {
		t.Errorf("it has %s", got)
	}
	pod.Exec("sh", "-c", "cd /home/default-user && rm -r .ssh && ln -s /etc .ssh")
	if err := i.keys(vmletv1.AuthorizedKeysMode_AUTHORIZED_KEYS_MODE_ADD, guestKey); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("out of the home: %v", err)
	}
	if left := pod.Exec("sh", "-c", "ls -A /etc | grep -e authorized -e vmlet || true"); left != "" {
		t.Errorf("/etc has %s", left)
	}
	i.password()
}
