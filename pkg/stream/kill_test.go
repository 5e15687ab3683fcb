// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmlet/vmlet/pkg/agentlink/record"
	"github.com/vmlet/vmlet/pkg/vm"
)

// childConsole holds the parts, a line each, of the console that a child process follows until it is
// killed: this test binary is also that child.
const childConsole = "VMLET_STREAM_TEST_CONSOLE"

func TestMain(m *testing.M) {
	text := os.Getenv(childConsole)
	if text == "" {
		os.Exit(m.Run())
	}
	if err := followForever(text); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// followForever reopens the log for each line that it reads, and says that it did.
func followForever(text string) error {
	paths := strings.Split(text, "\n")
	c := vm.Console{ContainerID: paths[0], Spool: paths[1], Checkpoint: paths[2], Log: paths[3], Format: vm.ConsoleFormat(paths[4])}
	cs := NewConsoles(ConsoleOptions{SpoolCap: unbounded, OnError: func(_ string, err error) { fmt.Println(err) }})
	if err := cs.Follow(context.Background(), c); err != nil {
		return err
	}
	fmt.Println("following")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if err := cs.Reopen(context.Background(), c.ContainerID); err != nil {
			return err
		}
		fmt.Println("reopened")
	}
	return nil
}

// unbounded is a spool cap for a guest that prints faster than a busy machine logs.
const unbounded = 1 << 40

type child struct {
	*exec.Cmd

	in  io.Writer
	out *bufio.Scanner
}

func startChild(t *testing.T, c vm.Console) *child {
	t.Helper()
	text := strings.Join([]string{c.ContainerID, c.Spool, c.Checkpoint, c.Log, string(c.Format)}, "\n")
	ch := &child{Cmd: exec.Command(os.Args[0])}
	ch.Env = append(os.Environ(), childConsole+"="+text)
	var err error
	if ch.in, err = ch.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := ch.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	ch.out = bufio.NewScanner(out)
	if err := ch.Start(); err != nil {
		t.Fatal(err)
	}
	if !ch.out.Scan() || ch.out.Text() != "following" {
		t.Fatalf("the child said %q", ch.out.Text())
	}
	return ch
}

func (ch *child) kill(t *testing.T) {
	t.Helper()
	if err := ch.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := ch.Wait(); err == nil {
		t.Fatal("the child ended by itself")
	}
}

// TestKilledProcessesLoseAndDoubleNothing kills real processes while a guest prints.
func TestKilledProcessesLoseAndDoubleNothing(t *testing.T) {
	for _, format := range []vm.ConsoleFormat{vm.ConsoleRaw, vm.ConsoleRecords} {
		t.Run(string(format), func(t *testing.T) { killProcesses(t, format) })
	}
}

func killProcesses(t *testing.T, format vm.ConsoleFormat) {
	t.Helper()
	r := newRoom(t)
	c := r.console("c")
	c.Format = format
	stop := make(chan struct{})
	end := sync.OnceFunc(func() { close(stop) })
	var printed strings.Builder
	var guest sync.WaitGroup
	defer guest.Wait()
	defer end()
	guest.Go(func() {
		random := rand.New(rand.NewPCG(1, 2))
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
				output := fmt.Sprintf("line %d %s\r\n", n, strings.Repeat("x", random.IntN(3000)))
				if format == vm.ConsoleRecords {
					output = string(record.Append(nil, record.Flags(random.IntN(4)), []byte(strings.TrimSuffix(output, "\r\n"))))
				}
				cut := random.IntN(len(output))
				r.print(c, output[:cut])
				r.print(c, output[cut:])
				printed.WriteString(output)
			}
		}
	})
	rotated := 0
	for life := range 12 {
		ch := startChild(t, c)
		time.Sleep(time.Duration(life*3) * time.Millisecond) // any moment will do
		renamed := fmt.Sprint(c.Log, ".", rotated+1)
		if life%3 == 1 {
			if err := os.Rename(c.Log, renamed); err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Fprintln(ch.in, "reopen"); err != nil {
				t.Fatal(err)
			}
			if life%2 == 0 && (!ch.out.Scan() || ch.out.Text() != "reopened") {
				t.Fatalf("the child said %q", ch.out.Text())
			}
		}
		ch.kill(t)
		if life%3 == 1 {
			if _, err := os.Stat(c.Log); err == nil {
				rotated++
			} else if err := os.Rename(renamed, c.Log); err != nil { // as kubelet does after a failed reopening
				t.Fatal(err)
			}
		}
	}
	end()
	guest.Wait()
	r.finish(r.consoles(func(cs *Consoles) { cs.limits.spoolCap = unbounded }), c)
	var log []byte
	for n := 1; n <= rotated+1; n++ {
		path := fmt.Sprint(c.Log, ".", n)
		if n > rotated {
			path = c.Log
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		log = append(log, b...)
	}
	var got, want string
	if format == vm.ConsoleRecords {
		got, want = strings.Join(entries(t, log), "\n"), strings.Join(wantedEntries([]byte(printed.String())), "\n")
	} else {
		got, want = text(t, log), wanted([]byte(printed.String()))
	}
	if got != want {
		t.Error(difference(got, want))
	}
	if printed.Len() == 0 {
		t.Error("nothing was printed")
	}
}
