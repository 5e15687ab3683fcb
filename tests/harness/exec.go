// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/streaming/pkg/httpstream"
)

// Streams are what a test connects to a process in a guest. What is nil is not connected.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	TTY            bool
}

// Session is a connection to a process in a guest, by the Exec or Attach of the CRI.
type Session struct {
	conn    httpstream.Connection
	resize  httpstream.Stream
	outputs sync.WaitGroup
	errors  httpstream.Stream
	copies  []error
	mu      sync.Mutex
}

// StartExec begins a command in the present container with its streams connected.
func (r *Running) StartExec(ctx context.Context, s Streams, command ...string) (*Session, error) {
	res, err := r.node.Exec(ctx, &runtimeapi.ExecRequest{
		ContainerId: r.ContainerID, Cmd: command, Tty: s.TTY, Stdin: s.Stdin != nil, Stdout: s.Stdout != nil, Stderr: s.Stderr != nil,
	})
	if err != nil {
		return nil, err
	}
	return Connect(ctx, res.GetUrl(), s)
}

// StartAttach connects to the present container's command, or to its console.
func (r *Running) StartAttach(ctx context.Context, s Streams) (*Session, error) {
	res, err := r.node.Attach(ctx, &runtimeapi.AttachRequest{
		ContainerId: r.ContainerID, Tty: s.TTY, Stdin: s.Stdin != nil, Stdout: s.Stdout != nil, Stderr: s.Stderr != nil,
	})
	if err != nil {
		return nil, err
	}
	return Connect(ctx, res.GetUrl(), s)
}

// ExecStream runs a command to its end and returns its exit code.
func (r *Running) ExecStream(ctx context.Context, s Streams, command ...string) (int, error) {
	session, err := r.StartExec(ctx, s, command...)
	if err != nil {
		return 0, err
	}
	defer session.Disconnect()
	return session.Wait()
}

// Connect opens the streams that a URL was promised for, in the order in which kubectl does.
func Connect(ctx context.Context, url string, s Streams) (*Session, error) {
	conn, err := upgrade(ctx, url, "v4.channel.k8s.io")
	if err != nil {
		return nil, err
	}
	session := &Session{conn: conn}
	if err := session.open(s); err != nil {
		_ = conn.Close() //nolint:errcheck // the first error tells more
		return nil, err
	}
	return session, nil
}

func (s *Session) stream(kind string) (httpstream.Stream, error) {
	headers := http.Header{}
	headers.Set("streamType", kind)
	stream, err := s.conn.CreateStream(headers)
	if err != nil {
		return nil, fmt.Errorf("open the stream %s: %w", kind, err)
	}
	return stream, nil
}

func (s *Session) open(streams Streams) (err error) {
	if s.errors, err = s.stream("error"); err != nil {
		return err
	}
	if streams.Stdin != nil {
		stdin, err := s.stream("stdin")
		if err != nil {
			return err
		}
		go func() {
			_, _ = io.Copy(stdin, streams.Stdin) //nolint:errcheck // the process may end before its input does
			_ = stdin.Close()                    //nolint:errcheck // the same
		}()
	}
	for kind, writer := range map[string]io.Writer{"stdout": streams.Stdout, "stderr": streams.Stderr} {
		if writer == nil {
			continue
		}
		stream, err := s.stream(kind)
		if err != nil {
			return err
		}
		s.outputs.Go(func() {
			if _, err := io.Copy(writer, stream); err != nil {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.copies = append(s.copies, fmt.Errorf("%s: %w", kind, err))
			}
		})
	}
	if streams.TTY {
		s.resize, err = s.stream("resize")
	}
	return err
}

// Resize changes the size of the process's terminal.
func (s *Session) Resize(width, height int) error {
	return json.NewEncoder(s.resize).Encode(map[string]int{"Width": width, "Height": height})
}

// Disconnect ends the connection, as a client does that is killed.
func (s *Session) Disconnect() { _ = s.conn.Close() } //nolint:errcheck // it is over in any case

// Wait waits for the process and for all its output.
func (s *Session) Wait() (exitCode int, err error) {
	message, err := io.ReadAll(s.errors)
	s.outputs.Wait()
	if err != nil {
		return 0, fmt.Errorf("the stream of errors: %w", err)
	}
	if len(s.copies) > 0 {
		return 0, s.copies[0]
	}
	return parseStatus(message)
}

// parseStatus reads what the error stream says at the end: a Kubernetes Status, whose
// cause ExitCode holds an exit code that is not 0.
func parseStatus(message []byte) (exitCode int, err error) {
	var status struct {
		Status  string `json:"status"`
		Message string `json:"message"`
		Reason  string `json:"reason"`
		Details struct {
			Causes []struct {
				Reason  string `json:"reason"`
				Message string `json:"message"`
			} `json:"causes"`
		} `json:"details"`
	}
	if err := json.Unmarshal(message, &status); err != nil {
		return 0, fmt.Errorf("no status on the error stream: %q", message)
	}
	if status.Status == "Success" {
		return 0, nil
	}
	for _, cause := range status.Details.Causes {
		if status.Reason == "NonZeroExitCode" && cause.Reason == "ExitCode" {
			return strconv.Atoi(cause.Message)
		}
	}
	return 0, fmt.Errorf("%s: %s", status.Reason, status.Message)
}
