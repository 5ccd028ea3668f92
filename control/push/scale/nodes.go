package scale

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"ringway/control"
	"ringway/control/push"
	pb "ringway/control/ringwayv1"
	"ringway/control/tableset"
)

// nameHeader says who calls, where a certificate would.
const nameHeader = "ringway-scale-node"

// FollowAll runs nodes 0 to n-1 that follow the controller at a unix socket, until
// ctx ends. Every fullEvery-th of them is an agent's whole way to the dataplane.
// It returns the first failure of a node, which ends all.
func FollowAll(ctx context.Context, socket string, n, fullEvery int, log *slog.Logger) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	known := &sums{seed: maphash.MakeSeed(), of: map[uint64]tableset.Sum{}}
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			var err error
			if fullEvery > 0 && i%fullEvery == 0 {
				err = followInFull(ctx, socket, nodeName(i), log)
			} else {
				err = (&light{known: known}).follow(ctx, socket, nodeName(i))
			}
			if err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("%s: %w", nodeName(i), err))
			}
		})
	}
	group.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func dial(socket, name string) (*grpc.ClientConn, error) {
	asNode := func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		return streamer(metadata.AppendToOutgoingContext(ctx, nameHeader, name), desc, cc, method, opts...)
	}
	options := append(push.GRPCDialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithStreamInterceptor(asNode))
	return grpc.NewClient("unix:"+socket, options...)
}

// followInFull validates every set, as an agent does before it applies it.
func followInFull(ctx context.Context, socket, name string, log *slog.Logger) error {
	f := push.NewFollower(push.FollowerOptions{
		Controllers: []string{socket},
		Dial:        func(context.Context, string) (*grpc.ClientConn, error) { return dial(socket, name) },
		Apply: func(set *pb.TableSet, _ push.Changed) []*pb.Problem {
			if _, err := control.Validate(set, name); err != nil {
				return []*pb.Problem{{Field: "set", Reason: err.Error(), Remedy: "make better objects"}}
			}
			return nil
		},
		Log: log,
	})
	return f.Run(ctx)
}

// light is a node without tables.
type light struct {
	known   *sums
	version uint64
	next    tableset.Sum // of what the node has, and the parts that came so far
}

var errMismatch = errors.New("the digest at the end is wrong")

func (l *light) follow(ctx context.Context, socket, name string) error {
	conn, err := dial(socket, name)
	if err != nil {
		return err
	}
	defer conn.Close()
	stream, err := pb.NewControllerServiceClient(conn).Follow(ctx, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	if err := stream.Send(&pb.FollowRequest{Message: &pb.FollowRequest_Hello{Hello: &pb.Hello{}}}); err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		p := m.GetPush()
		if p == nil {
			continue
		}
		if err := l.take(p); err != nil {
			return err
		}
		if !p.GetLast() {
			continue
		}
		answer := &pb.Answer{Nonce: p.GetNonce(), Version: p.GetVersion()}
		if err := stream.Send(&pb.FollowRequest{Message: &pb.FollowRequest_Answer{Answer: answer}}); err != nil {
			return err
		}
	}
}

// take verifies a part of a push.
func (l *light) take(p *pb.Push) error {
	if p.GetVersion() <= l.version || (p.GetBase() != 0 && p.GetBase() != l.version) {
		return fmt.Errorf("from version %d to %d after %d", p.GetBase(), p.GetVersion(), l.version)
	}
	for _, encoded := range [][]byte{p.GetCommon(), p.GetOwn()} {
		sum, err := l.known.sum(encoded)
		if err != nil {
			return err
		}
		l.next = l.next.Plus(sum)
	}
	if !p.GetLast() {
		return nil
	}
	if digest := l.next.Digest(); string(p.GetHash()) != string(digest[:]) {
		return errMismatch
	}
	l.version = p.GetVersion()
	return nil
}

// sums remembers what changes do to a sum, so that a part that thousands of nodes of
// one process get costs the process one look at its resources and thousands at its
// bytes.
type sums struct {
	seed maphash.Seed
	mu   sync.Mutex
	of   map[uint64]tableset.Sum
}

// worthIt is from how many bytes on changes are looked up.
const worthIt = 4 << 10

func (s *sums) sum(encoded []byte) (tableset.Sum, error) {
	if len(encoded) < worthIt {
		return sumOf(encoded)
	}
	key := maphash.Bytes(s.seed, encoded)
	s.mu.Lock()
	defer s.mu.Unlock()
	if sum, ok := s.of[key]; ok {
		return sum, nil
	}
	sum, err := sumOf(encoded)
	if err == nil {
		s.of[key] = sum
	}
	return sum, err
}

func sumOf(encoded []byte) (tableset.Sum, error) {
	var c pb.Changes
	var sum tableset.Sum
	if err := proto.Unmarshal(encoded, &c); err != nil {
		return sum, err
	}
	return sum, sum.Change(&c)
}
