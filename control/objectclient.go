package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	pb "ringway/control/ringwayv1"
	"ringway/control/rpc"
)

// ObjectClient asks a controller for the objects of its cluster. Its methods may
// be called from several goroutines; their errors are for people to read, and are
// Problems where the controller refused an object. Calls that come too often for the
// controller wait until their context ends.
type ObjectClient struct {
	address string
	network string // "unix" or "tcp"
	dial    string
	conn    *grpc.ClientConn
	objects pb.ObjectServiceClient
	release func() error
}

// NewObjectClient prepares to talk to the controller at address: unix:///PATH, or
// HOST:PORT for which files are needed. Whether there is one shows at the first
// call.
func NewObjectClient(address string, files TLSFiles) (*ObjectClient, error) {
	c := &ObjectClient{address: address, network: "unix", release: func() error { return nil }}
	var creds credentials.TransportCredentials = peerCredentials{}
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		c.dial = path
	} else {
		var err error
		c.network, c.dial = "tcp", address
		if creds, c.release, err = controllerCredentials(address, files); err != nil {
			return nil, err
		}
	}
	conn, err := grpc.NewClient("passthrough:///controller",
		grpc.WithTransportCredentials(creds),
		grpc.WithUnaryInterceptor(rpc.Patience()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, c.network, c.dial)
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("talk to the controller at %s: %w", address, err), c.release())
	}
	c.conn, c.objects = conn, pb.NewObjectServiceClient(conn)
	return c, nil
}

// Close ends the connection and every call on it.
func (c *ObjectClient) Close() error { return errors.Join(c.conn.Close(), c.release()) }

// Apply makes or replaces objects, one a document, all or none of them.
func (c *ObjectClient) Apply(ctx context.Context, documents []string) (*pb.ApplyObjectsResponse, error) {
	r, err := c.objects.ApplyObjects(ctx, &pb.ApplyObjectsRequest{Documents: documents})
	return r, c.explain(err)
}

// Delete removes objects, all or none of them. That there is none of a key is no
// error.
func (c *ObjectClient) Delete(ctx context.Context, keys []*pb.ObjectKey) (*pb.DeleteObjectsResponse, error) {
	r, err := c.objects.DeleteObjects(ctx, &pb.DeleteObjectsRequest{Keys: keys})
	return r, c.explain(err)
}

// Get lists the objects of a kind. Empty namespace and name are all.
func (c *ObjectClient) Get(ctx context.Context, kind, namespace, name string) ([]*pb.Object, error) {
	stream, err := c.objects.GetObjects(ctx, &pb.GetObjectsRequest{Kind: kind, Namespace: namespace, Name: name})
	items, err := gather(stream, err, (*pb.GetObjectsResponse).GetItems)
	return items, c.explain(err)
}

// Diff says what Apply would change.
func (c *ObjectClient) Diff(ctx context.Context, documents []string) (*pb.DiffObjectsResponse, error) {
	r, err := c.objects.DiffObjects(ctx, &pb.DiffObjectsRequest{Documents: documents})
	return r, c.explain(err)
}

// NodeStates says what became of the sets that nodes were sent.
func (c *ObjectClient) NodeStates(ctx context.Context) ([]*pb.NodeState, error) {
	stream, err := c.objects.GetNodeStates(ctx, &pb.GetNodeStatesRequest{})
	items, err := gather(stream, err, (*pb.GetNodeStatesResponse).GetItems)
	return items, c.explain(err)
}

// Status of the controller.
func (c *ObjectClient) Status(ctx context.Context) (*pb.ControllerStatus, error) {
	r, err := c.objects.GetControllerStatus(ctx, &pb.GetControllerStatusRequest{})
	return r.GetStatus(), c.explain(err)
}

func (c *ObjectClient) explain(err error) error { return explain(err, c.unavailable) }

// unavailable dials once more, because gRPC keeps the error of the dial only as
// text.
func (c *ObjectClient) unavailable(message string) error {
	conn, err := net.Dial(c.network, c.dial)
	switch {
	case err == nil:
		conn.Close()
		return fmt.Errorf("the controller at %s: %s", c.address, message)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no controller answers at %s: is it running?", c.address)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("no permission to talk to the controller at %s: be root or of the socket's group", c.address)
	default:
		return fmt.Errorf("talk to the controller: %w", err)
	}
}
