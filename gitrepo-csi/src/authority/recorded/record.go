// Records the bytes that a grpc-go client writes when it dials a Unix socket as the kubelet does. README.md says how to
// run it.
package main

import (
	"context"
	"log"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	registrationSocket = "/var/lib/kubelet/plugins_registry/csi.gitrepo.internal-reg.sock"
	csiSocket          = "/var/lib/kubelet/plugins/csi.gitrepo.internal/csi.sock"
)

// recording is a connection that keeps the bytes that the client sent.
type recording struct {
	net.Conn
	mutex sync.Mutex
	bytes []byte
}

func (r *recording) Read(into []byte) (int, error) {
	n, err := r.Conn.Read(into)
	r.mutex.Lock()
	r.bytes = append(r.bytes, into[:n]...)
	r.mutex.Unlock()
	return n, err
}

type recorder struct {
	net.Listener
	accepted chan *recording
}

func (l recorder) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	r := &recording{Conn: conn}
	l.accepted <- r
	return r, nil
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// record serves any method with an empty message, lets `calls` talk to it over one connection to `target`, and
// writes the client's bytes to `file`.
func record(file, target string, calls func(*grpc.ClientConn), options ...grpc.DialOption) {
	folder, err := os.MkdirTemp("", "record")
	check(err)
	defer os.RemoveAll(folder)
	listener, err := net.Listen("unix", filepath.Join(folder, "s"))
	check(err)
	l := recorder{listener, make(chan *recording, 1)}
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		if err := stream.RecvMsg(&emptypb.Empty{}); err != nil {
			return err
		}
		return stream.SendMsg(&emptypb.Empty{})
	}))
	go server.Serve(l)
	options = append(options, grpc.WithInsecure(), grpc.WithBlock(),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", listener.Addr().String())
		}))
	conn, err := grpc.Dial(target, options...)
	check(err)
	calls(conn)
	check(conn.Close())
	server.GracefulStop()
	r := <-l.accepted
	r.mutex.Lock()
	defer r.mutex.Unlock()
	check(os.WriteFile(file, r.bytes, 0o644))
}

func call(conn *grpc.ClientConn, method string, request any, limit time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	check(conn.Invoke(ctx, method, request, &emptypb.Empty{}))
}

func main() {
	version := os.Args[1]
	registration := func(conn *grpc.ClientConn) {
		call(conn, "/pluginregistration.Registration/GetInfo", &emptypb.Empty{}, time.Second)
		call(conn, "/pluginregistration.Registration/NotifyRegistrationStatus", wrapperspb.Bool(true), 5*time.Second)
	}
	node := func(conn *grpc.ClientConn) {
		call(conn, "/csi.v1.Node/NodeGetInfo", &emptypb.Empty{}, 2*time.Minute)
	}
	record("grpc-go-"+version+"-registration.bin", registrationSocket, registration)
	record("grpc-go-"+version+"-csi.bin", csiSocket, node)
	record("grpc-go-"+version+"-csi-localhost.bin", csiSocket, node, grpc.WithAuthority("localhost"))
}
