// A typed client: creates a source, streams events to it, and reads them.
// URL is the address of the server and KEY an API key, as in README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/url"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	headwater "example.com/shop/gen/headwater/v1"
)

const maxStreams = 10

func main() {
	address, err := url.Parse(os.Getenv("URL"))
	if err != nil {
		log.Fatal(err)
	}
	channel, err := grpc.NewClient(address.Host, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer channel.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	manager := authorize(ctx, os.Getenv("KEY"))

	source, writeKey, err := createSource(manager, channel)
	if err != nil {
		log.Fatal(err)
	}
	events := headwater.NewEventServiceClient(channel)
	if err := streamEvents(authorize(ctx, writeKey), events, makeRequests(source)); err != nil {
		log.Fatal(err)
	}
	if err := readEvents(manager, events, source); err != nil {
		log.Fatal(err)
	}
	handleAnError(manager, channel)
}

func authorize(ctx context.Context, key string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
}

// createSource creates a source and a pipeline that stores its orders. It returns the source's id and its write key.
func createSource(ctx context.Context, channel *grpc.ClientConn) (int32, string, error) {
	connections := headwater.NewConnectionServiceClient(channel)
	source, err := connections.CreateConnection(ctx, &headwater.CreateConnectionRequest{
		Name: "Shop", Role: "Source", Connector: "http",
	})
	if err != nil {
		return 0, "", err
	}
	orders := &headwater.FilterCondition{Property: "event", Operator: "is", Values: []string{"Order Completed"}}
	pipelines := headwater.NewPipelineServiceClient(channel)
	pipeline, err := pipelines.CreatePipeline(ctx, &headwater.CreatePipelineRequest{
		Connection: source.Id,
		Target:     "Event",
		Name:       "Store orders",
		Enabled:    true,
		Filter:     &headwater.Filter{Logical: "and", Conditions: []*headwater.FilterCondition{orders}},
	})
	if err != nil {
		return 0, "", err
	}
	fmt.Printf("created source %d with pipeline %d\n", source.Id, pipeline.Id)
	keys, err := connections.ListEventWriteKeys(ctx, &headwater.ListEventWriteKeysRequest{Id: source.Id})
	if err != nil {
		return 0, "", err
	}
	return source.Id, keys.Keys[0], nil
}

// makeRequests makes 20 requests with 10 events each. An event with a message id is stored once, however often it is
// sent.
func makeRequests(source int32) []*headwater.StreamEventsRequest {
	names := []string{"Order Viewed", "Order Completed"}
	user := "ada"
	requests := make([]*headwater.StreamEventsRequest, 20)
	for number := range requests {
		requests[number] = &headwater.StreamEventsRequest{}
		for index := range 10 {
			requests[number].Events = append(requests[number].Events, &headwater.Event{
				Type:      "track",
				UserId:    &user,
				MessageId: fmt.Sprintf("%d-%d-%d", source, number, index),
				Event:     &names[index%2],
			})
		}
	}
	return requests
}

// streamEvents sends all requests. After a break it sends those that are not acknowledged on a new stream.
func streamEvents(
	ctx context.Context, events headwater.EventServiceClient, requests []*headwater.StreamEventsRequest,
) error {
	durable := 0
	for range maxStreams {
		acknowledged, err := streamOnce(ctx, events, requests[durable:])
		durable += acknowledged
		if durable == len(requests) {
			fmt.Printf("streamed %d requests\n", durable)
			return nil
		}
		switch status.Code(err) {
		case codes.OK, codes.Unavailable, codes.Internal, codes.ResourceExhausted:
			fmt.Printf("the stream broke after %d requests\n", durable)
			time.Sleep(time.Second)
		default:
			return err
		}
	}
	return fmt.Errorf("only %d requests are durable after %d streams", durable, maxStreams)
}

// streamOnce sends requests on one stream. It returns how many of them are durable.
func streamOnce(
	ctx context.Context, events headwater.EventServiceClient, requests []*headwater.StreamEventsRequest,
) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := events.StreamEvents(ctx)
	if err != nil {
		return 0, err
	}
	go func() {
		for _, request := range requests {
			if stream.Send(request) != nil {
				return // Recv returns the error
			}
		}
		_ = stream.CloseSend()
	}()
	durable := 0
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return durable, nil
		}
		if err != nil {
			return durable, err
		}
		durable = int(response.Requests)
	}
}

// readEvents reads the stored events of the source in pages, once all of them are stored.
func readEvents(ctx context.Context, events headwater.EventServiceClient, source int32) error {
	for range 100 {
		stored, pages, err := listPages(ctx, events, source)
		if err != nil {
			return err
		}
		if len(stored) == 100 {
			fmt.Printf("read %d events in %d pages\n", len(stored), pages)
			return nil
		}
		time.Sleep(200 * time.Millisecond)
	}
	return errors.New("the events are not stored")
}

func listPages(
	ctx context.Context, events headwater.EventServiceClient, source int32,
) (stored []*headwater.Event, pages int, err error) {
	order, limit := "receivedAt", int32(40)
	request := &headwater.ListEventsRequest{
		ConnectionIds: []int32{source}, Order: &order, Ascending: true, Limit: &limit,
	}
	for {
		page, err := events.ListEvents(ctx, request)
		if err != nil {
			return nil, 0, err
		}
		stored = append(stored, page.Events...)
		pages++
		if page.NextPageToken == "" {
			return stored, pages, nil
		}
		request.PageToken = page.NextPageToken
	}
}

// handleAnError sends a request without a name. Programs decide by the reason, and show the field.
func handleAnError(ctx context.Context, channel *grpc.ClientConn) {
	nameless := &headwater.CreateConnectionRequest{Role: "Source", Connector: "http"}
	_, err := headwater.NewConnectionServiceClient(channel).CreateConnection(ctx, nameless)
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			fmt.Printf("error %s in %s: %s\n", info.Reason, info.Metadata["field"], status.Convert(err).Message())
		}
	}
}
