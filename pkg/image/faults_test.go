// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/vmlet/vmlet/pkg/qcow2head"
	"github.com/vmlet/vmlet/pkg/vm"
)

const rawType types.MediaType = "application/vnd.vmlet.disk.raw.v1"

// hangUp ends the connection without another byte.
func hangUp() { panic(http.ErrAbortHandler) }

func TestADroppedConnectionGoesOnWhereItBrokeOff(t *testing.T) {
	disk := rawDisk(1, 8*mib)
	for _, tc := range []struct {
		name   string
		ranges bool
	}{{"with ranges", true}, {"with a registry that ignores ranges", false}} {
		t.Run(tc.name, func(t *testing.T) {
			reg, s := newRegistry(t), openStore(t)
			ref := reg.push("vms/test:v1", artifact(t, rawType, disk))
			var served atomic.Int64
			reg.misbehave(onBlob(func(w http.ResponseWriter, req *http.Request) {
				from := 0
				if h := req.Header.Get("Range"); h != "" && tc.ranges {
					must2(fmt.Sscanf(h, "bytes=%d-", &from))
					w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(disk)-1, len(disk)))
				}
				w.Header().Set("Content-Length", fmt.Sprint(len(disk)-from))
				if from > 0 {
					w.WriteHeader(http.StatusPartialContent)
				}
				// Three connections get two MiB further each, the fourth to the end.
				end := min(len(disk), from+2*mib)
				if !tc.ranges {
					end = min(len(disk), 2*mib*reg.count("GET blobs"))
				}
				must2(w.Write(disk[from:end]))
				served.Add(int64(end - from))
				if end < len(disk) {
					flush(w)
					hangUp()
				}
			}))
			wantDisk(t, pullOK(t, s, ref), disk, vm.FormatRaw, int64(len(disk)))
			if n := reg.count("GET blobs"); n != 4 {
				t.Errorf("%d connections, want 4: %v", n, reg.all())
			}
			if tc.ranges && served.Load() != int64(len(disk)) {
				t.Errorf("%d bytes were sent for a disk of %d", served.Load(), len(disk))
			}
			wantFiles(t, s, "blobs 1, records 1, parts 0")
		})
	}
}

func TestARegistryThatAlwaysBreaksOffIsUnavailable(t *testing.T) {
	disk := rawDisk(1, 4*mib)
	for name, blob := range map[string]http.HandlerFunc{
		"in the middle": func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(disk)))
			must2(w.Write(disk[:1000]))
			flush(w)
			hangUp()
		},
		"before the answer": func(http.ResponseWriter, *http.Request) { hangUp() },
		"by its status":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) },
		"by refusing more":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) },
	} {
		t.Run(name, func(t *testing.T) {
			reg, s := newRegistry(t), openStore(t)
			ref := reg.push("vms/test:v1", artifact(t, rawType, disk))
			reg.misbehave(onBlob(blob))
			_, err := s.Pull(t.Context(), ref, vm.RegistryAuth{}, nil)
			if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "of 4194304 bytes, 3 times in a row") {
				t.Errorf("got %v, want Unavailable", err)
			}
			// net/http tries again by itself on a connection that it had open.
			if n := reg.count("GET blobs"); n < s.retry.attempts || n > 2*s.retry.attempts {
				t.Errorf("%d attempts, want %d", n, s.retry.attempts)
			}
			wantFiles(t, s, "blobs 0, records 0, parts 0")
		})
	}
}

func TestARegistryThatFallsSilentIsAskedAgain(t *testing.T) {
	reg, s := newRegistry(t), openStore(t)
	s.retry.stall = 100 * time.Millisecond
	disk := rawDisk(1, 4*mib)
	ref := reg.push("vms/test:v1", artifact(t, rawType, disk))
	var once sync.Once
	silent := func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		stall := false
		once.Do(func() { stall = true })
		if !stall {
			next.ServeHTTP(w, req)
			return
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(disk)))
		must2(w.Write(disk[:mib]))
		flush(w)
		<-req.Context().Done()
	}
	reg.misbehave(func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		if strings.HasPrefix(summary(req), "GET blobs") {
			silent(w, req, next)
			return
		}
		next.ServeHTTP(w, req)
	})
	wantDisk(t, pullOK(t, s, ref), disk, vm.FormatRaw, int64(len(disk)))
	if n := reg.count("GET blobs bytes="); n != 1 {
		t.Errorf("requests %v, want one that goes on", reg.all())
	}
}

func TestARegistryThatNeverAnswersIsUnavailable(t *testing.T) {
	reg, s := newRegistry(t), openStore(t)
	s.retry.stall = 50 * time.Millisecond
	ref := reg.push("vms/test:v1", artifact(t, rawType, rawDisk(1, mib)))
	for _, what := range []string{"GET ping", "GET manifests", "GET blobs"} {
		reg.misbehave(func(w http.ResponseWriter, req *http.Request, next http.Handler) {
			if strings.HasPrefix(summary(req), what) {
				<-req.Context().Done()
				return
			}
			next.ServeHTTP(w, req)
		})
		if _, err := s.Pull(t.Context(), ref, vm.RegistryAuth{}, nil); !errdefs.IsUnavailable(err) {
			t.Errorf("silent on %s: got %v, want Unavailable", what, err)
		}
	}
	wantFiles(t, s, "blobs 0, records 0, parts 0")
}

func TestARegistryThatLiesIsFoundOut(t *testing.T) {
	disk := rawDisk(1, 4*mib)
	flipped := slices.Clone(disk)
	flipped[3*mib] ^= 1
	send := func(b []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(b)))
			must2(w.Write(b))
		}
	}
	packed := gzipOf(t, disk)
	packedType := rawType + "+gzip"
	for _, tc := range []struct {
		name string
		kind types.MediaType
		blob []byte
		send http.HandlerFunc
	}{
		{"one bit is another", rawType, disk, send(flipped)},
		{"a bit of the packed layer is another", packedType, packed, send(gzipOf(t, flipped)[:len(packed)])},
		{"something else of the same size", packedType, packed, send(rawDisk(7, len(packed)))},
		{"a disk with a backing file", rawType, disk, send(append([]byte(qcow2head.Magic), disk[4:]...))},
		{"fewer bytes", rawType, disk, send(disk[:mib])},
		{"more bytes", rawType, disk, send(append(slices.Clone(disk), 0))},
		{"one bit is another, in an answer of no announced length", rawType, disk, func(w http.ResponseWriter, _ *http.Request) {
			must2(w.Write(flipped[:mib]))
			flush(w)
			must2(w.Write(flipped[mib:]))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			reg, s := newRegistry(t), openStore(t)
			ref := reg.push("vms/test:v1", artifact(t, tc.kind, tc.blob))
			reg.misbehave(onBlob(tc.send))
			_, err := s.Pull(t.Context(), ref, vm.RegistryAuth{}, nil)
			if !errdefs.IsDataLoss(err) {
				t.Errorf("got %v, want DataLoss", err)
			}
			wantFiles(t, s, "blobs 0, records 0, parts 0")
		})
	}
}

func TestAManifestThatIsNotItsDigestIsRefused(t *testing.T) {
	reg, s := newRegistry(t), openStore(t)
	img := artifact(t, rawType, rawDisk(1, mib))
	reg.push("vms/test:v1", img)
	other := must(artifact(t, rawType, rawDisk(2, mib)).RawManifest())(t)
	reg.misbehave(func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		if summary(req) == "GET manifests" {
			must2(w.Write(other))
			return
		}
		next.ServeHTTP(w, req)
	})
	_, err := s.Pull(t.Context(), reg.host+"/vms/test@"+digestOf(t, img), vm.RegistryAuth{}, nil)
	if !errdefs.IsDataLoss(err) || reg.count("GET blobs") != 0 {
		t.Errorf("got %v, want DataLoss before any blob is fetched", err)
	}
}

func TestABackingFileIsRefusedBeforeTheRestIsFetched(t *testing.T) {
	reg, s := newRegistry(t), openStore(t)
	disk := qcow2Disk(1, 1<<30, 32*mib)
	disk[15], disk[19] = 200, 9
	ref := reg.push("vms/test:v1", artifact(t, "application/vnd.vmlet.disk.qcow2.v1", disk))
	var sent atomic.Int64
	reg.misbehave(onBlob(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(disk)))
		for at := 0; at < len(disk); at += mib {
			n, err := w.Write(disk[at:min(len(disk), at+mib)])
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}))
	_, err := s.Pull(t.Context(), ref, vm.RegistryAuth{}, nil)
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "backing file") {
		t.Errorf("got %v", err)
	}
	if got := sent.Load(); got > 24*mib {
		t.Errorf("%d MiB were fetched of a disk whose first sector says no", got/mib)
	}
}

func TestUnknownImagesAreNotFound(t *testing.T) {
	reg, s := newRegistry(t), openStore(t)
	reg.push("vms/test:v1", artifact(t, rawType, rawDisk(1, mib)))
	for _, ref := range []string{"vms/test:v2", "vms/other:v1"} {
		if _, err := s.Pull(t.Context(), reg.host+"/"+ref, vm.RegistryAuth{}, nil); !errdefs.IsNotFound(err) {
			t.Errorf("%s: got %v, want NotFound", ref, err)
		}
	}
}

func TestAHostWithoutARegistryIsUnavailable(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	host := strings.TrimPrefix(server.URL, "http://")
	server.Close()
	s := openStore(t)
	if _, err := s.Pull(t.Context(), host+"/x:y", vm.RegistryAuth{}, nil); !errdefs.IsUnavailable(err) {
		t.Errorf("got %v, want Unavailable", err)
	}
}

// The secrets of the tests. Nothing that is returned may hold any of them.
const (
	secretUser     = "user-IeJ4ahx7"
	secretPassword = "password-ahNg3ohz"
	secretToken    = "token-Oowahc6e"
)

func wantNoSecrets(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		t.Error("it was let in")
		return
	}
	encoded := base64.StdEncoding.EncodeToString([]byte(secretUser + ":" + secretPassword))
	for _, secret := range []string{secretUser, secretPassword, secretToken, encoded} {
		if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), secret) {
			t.Errorf("%q is in the error %v", secret, err)
		}
	}
}

// protect lets the registry be used with one of two Authorization headers only. A refusal
// echoes what it was sent.
func protect(t *testing.T, reg *testRegistry, challenge string) {
	t.Helper()
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(secretUser+":"+secretPassword))
	reg.misbehave(func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		got := req.Header.Get("Authorization")
		if req.URL.Path == "/token" {
			must0(t, req.ParseForm())
			if got == basic || req.PostForm.Get("refresh_token") == secretToken {
				must2(fmt.Fprintf(w, `{"access_token":%q}`, secretToken))
				return
			}
			w.WriteHeader(http.StatusUnauthorized)
			must2(fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":%q}]}`, got+req.PostForm.Encode()))
			return
		}
		if got == "Bearer "+secretToken || got == basic && strings.HasPrefix(challenge, "Basic") {
			next.ServeHTTP(w, req)
			return
		}
		w.Header().Set("WWW-Authenticate", challenge)
		w.WriteHeader(http.StatusUnauthorized)
		must2(fmt.Fprintf(w, `{"errors":[{"code":"UNAUTHORIZED","message":%q,"detail":%q}]}`, got, got))
	})
}

func TestRegistriesAreAuthenticatedWith(t *testing.T) {
	auth := base64.StdEncoding.EncodeToString([]byte(secretUser + ":" + secretPassword))
	padded := base64.StdEncoding.EncodeToString([]byte(secretUser + ":" + secretPassword + "\x00\x00"))
	good := map[string]vm.RegistryAuth{
		"a user and password":      {Username: secretUser, Password: secretPassword},
		"an auth field":            {Auth: auth},
		"an auth field, unpadded":  {Auth: strings.TrimRight(auth, "=")},
		"an auth field with NULs":  {Auth: padded},
		"an identity token":        {IdentityToken: secretToken},
		"a registry token":         {RegistryToken: secretToken},
		"a user, for this address": {Username: secretUser, Password: secretPassword, ServerAddress: "https://HOST/v2/"},
	}
	bad := map[string]vm.RegistryAuth{
		"nothing":                   {},
		"a wrong password":          {Username: secretUser, Password: secretPassword + "x"},
		"a wrong identity token":    {IdentityToken: secretToken + "x"},
		"a wrong registry token":    {RegistryToken: secretToken + "x"},
		"a user, for another place": {Username: secretUser, Password: secretPassword, ServerAddress: "https://elsewhere.example"},
	}
	for _, scheme := range []string{"Basic", "Bearer"} {
		reg := newRegistry(t)
		ref := reg.push("vms/test:v1", artifact(t, rawType, rawDisk(1, mib)))
		challenge := `Basic realm="x"`
		if scheme == "Bearer" {
			challenge = fmt.Sprintf(`Bearer realm="http://%s/token",service="x"`, reg.host)
		}
		protect(t, reg, challenge)
		for name, a := range good {
			if a.IdentityToken != "" && scheme == "Basic" {
				continue // it is to be traded for a token, which nobody offers
			}
			a.ServerAddress = strings.ReplaceAll(a.ServerAddress, "HOST", reg.host)
			if _, err := openStore(t).Pull(t.Context(), ref, a, nil); err != nil {
				t.Errorf("%s, %s: %v", scheme, name, err)
			}
		}
		for name, a := range bad {
			_, err := openStore(t).Pull(t.Context(), ref, a, nil)
			if !errdefs.IsUnauthorized(err) {
				t.Errorf("%s, %s: got %v, want Unauthenticated", scheme, name, err)
			}
			wantNoSecrets(t, err)
		}
	}
}

func TestBadAuthFieldsAreInvalidAndNotShown(t *testing.T) {
	s := openStore(t)
	for _, auth := range []string{secretPassword, base64.StdEncoding.EncodeToString([]byte(secretPassword))} {
		_, err := s.Pull(t.Context(), "127.0.0.1:1/x:y", vm.RegistryAuth{Auth: auth}, nil)
		if !errdefs.IsInvalidArgument(err) || strings.Contains(err.Error(), auth) {
			t.Errorf("got %v, want InvalidArgument", err)
		}
		wantNoSecrets(t, err)
	}
}

func TestWhatRegistriesSayIsNotRepeated(t *testing.T) {
	auth := vm.RegistryAuth{Username: secretUser, Password: secretPassword}
	for name, behave := range map[string]func(reg *testRegistry) http.HandlerFunc{
		"a token service without a token": func(reg *testRegistry) http.HandlerFunc {
			return func(w http.ResponseWriter, req *http.Request) {
				if req.URL.Path == "/token" {
					must2(fmt.Fprintf(w, `{"refresh_token":%q}`, secretToken))
					return
				}
				w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token"`, reg.host))
				w.WriteHeader(http.StatusUnauthorized)
			}
		},
		"a signed redirect that leads nowhere": func(reg *testRegistry) http.HandlerFunc {
			return func(w http.ResponseWriter, req *http.Request) {
				if summary(req) == "GET ping" {
					return
				}
				http.Redirect(w, req, "http://127.0.0.1:1/?signature="+secretToken, http.StatusTemporaryRedirect)
			}
		},
		"an error page": func(reg *testRegistry) http.HandlerFunc {
			return func(w http.ResponseWriter, req *http.Request) {
				w.WriteHeader(http.StatusForbidden)
				must2(fmt.Fprintf(w, "%s %s", secretPassword, secretToken))
			}
		},
		"an error code": func(reg *testRegistry) http.HandlerFunc {
			return func(w http.ResponseWriter, req *http.Request) {
				w.WriteHeader(http.StatusForbidden)
				must2(fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, secretPassword, secretToken))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			reg, s := newRegistry(t), openStore(t)
			handler := behave(reg)
			reg.misbehave(func(w http.ResponseWriter, req *http.Request, _ http.Handler) { handler(w, req) })
			_, err := s.Pull(t.Context(), reg.host+"/x:y", auth, nil)
			wantNoSecrets(t, err)
		})
	}
}

func TestCredentialsStayWithTheRegistryTheyAreFor(t *testing.T) {
	elsewhere := newRegistry(t)
	elsewhere.push("vms/test:v1", artifact(t, rawType, rawDisk(1, mib)))
	var leaked atomic.Bool
	elsewhere.misbehave(func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		if req.Header.Get("Authorization") != "" {
			leaked.Store(true)
		}
		next.ServeHTTP(w, req)
	})
	auth := vm.RegistryAuth{Username: secretUser, Password: secretPassword}

	t.Run("by an alias", func(t *testing.T) {
		s := openStore(t, func(c *Config) {
			c.Aliases = []Alias{{Pattern: "registry.example/*", Name: elsewhere.host + "/*"}}
		})
		if _, err := s.Pull(t.Context(), "registry.example/vms/test:v1", auth, nil); err != nil {
			t.Error(err)
		}
	})
	t.Run("by a redirect", func(t *testing.T) {
		reg, s := newRegistry(t), openStore(t)
		ref := reg.push("vms/test:v1", artifact(t, rawType, rawDisk(1, mib)))
		reg.misbehave(func(w http.ResponseWriter, req *http.Request, next http.Handler) {
			switch {
			case req.Header.Get("Authorization") == "":
				w.Header().Set("WWW-Authenticate", "Basic")
				w.WriteHeader(http.StatusUnauthorized)
			case strings.HasPrefix(summary(req), "GET blobs"):
				http.Redirect(w, req, "http://"+elsewhere.host+req.URL.Path, http.StatusTemporaryRedirect)
			default:
				next.ServeHTTP(w, req)
			}
		})
		if _, err := s.Pull(t.Context(), ref, auth, nil); err != nil {
			t.Error(err)
		}
		if elsewhere.count("GET blobs") == 0 {
			t.Error("the redirect was not followed")
		}
	})
	if leaked.Load() {
		t.Error("the other registry was given the credentials")
	}
}

func TestCallersWithOtherCredentialsDoNotShareAPull(t *testing.T) {
	reg, s := newRegistry(t), openStore(t)
	disk := rawDisk(1, mib)
	ref := reg.push("vms/test:v1", artifact(t, rawType, disk))
	good := "Basic " + base64.StdEncoding.EncodeToString([]byte(secretUser+":"+secretPassword))
	begun, goOn := make(chan struct{}), make(chan struct{})
	reg.misbehave(func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		if req.Header.Get("Authorization") != good {
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if strings.HasPrefix(summary(req), "GET blobs") {
			close(begun)
			<-goOn
		}
		next.ServeHTTP(w, req)
	})
	wrong := func(when string) {
		_, err := s.Pull(t.Context(), ref, vm.RegistryAuth{Username: "other", Password: secretPassword}, nil)
		if !errdefs.IsUnauthorized(err) {
			t.Errorf("%s: got %v, want Unauthenticated", when, err)
		}
	}
	var all sync.WaitGroup
	all.Go(func() {
		if _, err := s.Pull(t.Context(), ref, vm.RegistryAuth{Username: secretUser, Password: secretPassword}, nil); err != nil {
			t.Error(err)
		}
	})
	<-begun
	wrong("while others pull")
	close(goOn)
	all.Wait()
	wrong("when it is here")
}

func TestCallersShareAPullAndSurviveEachOther(t *testing.T) {
	reg, s := newRegistry(t), openStore(t)
	disk := rawDisk(1, 2*mib)
	ref := reg.push("vms/test:v1", artifact(t, rawType, disk))
	begun, goOn := make(chan struct{}), make(chan struct{})
	reg.misbehave(onBlob(func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-goOn
		must2(bytes.NewReader(disk).WriteTo(w))
	}))
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		if _, err := s.Pull(ctx, ref, vm.RegistryAuth{}, nil); !errdefs.IsCanceled(err) {
			t.Errorf("the first: got %v, want Canceled", err)
		}
	})
	<-begun
	joined := make(chan struct{})
	all.Go(func() {
		heard := sync.OnceFunc(func() { close(joined) })
		img, err := s.Pull(t.Context(), ref, vm.RegistryAuth{}, func(vm.PullProgress) { heard() })
		must0(t, err)
		wantDisk(t, img, disk, vm.FormatRaw, int64(len(disk)))
	})
	<-joined
	cancel()
	close(goOn)
	all.Wait()
	if n := reg.count("GET blobs"); n != 1 {
		t.Errorf("%d downloads, want 1", n)
	}
}
