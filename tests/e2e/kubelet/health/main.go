// SPDX-License-Identifier: Apache-2.0

// Command health is a workload with a gRPC health service, for a guest of the tests to run:
//
//	health ADDRESS FILE
//
// It serves grpc.health.v1 on ADDRESS. The service "vm" is SERVING as long as FILE exists; it knows no other.
package main

import (
	"context"
	"fmt"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

type health struct {
	healthv1.UnimplementedHealthServer
	file string
}

// Check implements HealthServer.
func (h health) Check(_ context.Context, req *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	if req.GetService() != "vm" {
		return nil, status.Errorf(codes.NotFound, "no service %q", req.GetService())
	}
	if _, err := os.Stat(h.file); err != nil {
		return &healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_NOT_SERVING}, nil //nolint:nilerr // that is the answer
	}
	return &healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_SERVING}, nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "health:", err)
		os.Exit(1)
	}
}

func run() error {
	listener, err := net.Listen("tcp", os.Args[1]) //nolint:noctx // bound at once
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	healthv1.RegisterHealthServer(server, health{file: os.Args[2]})
	fmt.Println("listening on", listener.Addr())
	return server.Serve(listener)
}
