package shop;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import com.headwater.v1.ConnectionServiceGrpc;
import com.headwater.v1.CreateConnectionRequest;
import com.headwater.v1.CreatePipelineRequest;
import com.headwater.v1.Event;
import com.headwater.v1.EventServiceGrpc;
import com.headwater.v1.Filter;
import com.headwater.v1.FilterCondition;
import com.headwater.v1.ListEventWriteKeysRequest;
import com.headwater.v1.ListEventsRequest;
import com.headwater.v1.ListEventsResponse;
import com.headwater.v1.PipelineServiceGrpc;
import com.headwater.v1.StreamEventsRequest;
import com.headwater.v1.StreamEventsResponse;
import io.grpc.CallCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.StreamObserver;
import java.net.URI;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;

/**
 * A typed client: creates a source, streams events to it, and reads them. URL is the address of the server and KEY an
 * API key, as in README.md.
 */
public final class Example {
  private static final int MAX_STREAMS = 10;
  private static final Set<Status.Code> RETRIED =
      EnumSet.of(Status.Code.OK, Status.Code.UNAVAILABLE, Status.Code.INTERNAL, Status.Code.RESOURCE_EXHAUSTED);

  private final ManagedChannel channel;
  private final CallCredentials manager = new Key(System.getenv("KEY"));

  private Example(ManagedChannel channel) {
    this.channel = channel;
  }

  public static void main(String[] arguments) throws Exception {
    String address = URI.create(System.getenv("URL")).getAuthority();
    ManagedChannel channel = ManagedChannelBuilder.forTarget(address).usePlaintext().build();
    try {
      new Example(channel).run();
    } finally {
      channel.shutdown().awaitTermination(5, TimeUnit.SECONDS);
    }
  }

  private void run() throws Exception {
    var connections = ConnectionServiceGrpc.newBlockingStub(channel).withCallCredentials(manager);
    int source = createSource(connections);
    var keys = connections.listEventWriteKeys(ListEventWriteKeysRequest.newBuilder().setId(source).build());
    streamEvents(keys.getKeys(0), makeRequests(source));
    readEvents(source);
    handleAnError(connections);
  }

  /** Creates a source and a pipeline that stores its orders. Returns the source's id. */
  private int createSource(ConnectionServiceGrpc.ConnectionServiceBlockingStub connections) {
    var connection = CreateConnectionRequest.newBuilder().setName("Shop").setRole("Source").setConnector("http");
    int source = connections.createConnection(connection.build()).getId();
    var orders = FilterCondition.newBuilder().setProperty("event").setOperator("is").addValues("Order Completed");
    var pipeline = CreatePipelineRequest.newBuilder()
        .setConnection(source)
        .setTarget("Event")
        .setName("Store orders")
        .setEnabled(true)
        .setFilter(Filter.newBuilder().setLogical("and").addConditions(orders));
    var pipelines = PipelineServiceGrpc.newBlockingStub(channel).withCallCredentials(manager);
    System.out.printf("created source %d with pipeline %d%n", source, pipelines.createPipeline(pipeline.build()).getId());
    return source;
  }

  /** Makes 20 requests with 10 events each. An event with a message id is stored once, however often it is sent. */
  private static List<StreamEventsRequest> makeRequests(int source) {
    List<StreamEventsRequest> requests = new ArrayList<>();
    for (int number = 0; number < 20; number++) {
      var request = StreamEventsRequest.newBuilder();
      for (int index = 0; index < 10; index++) {
        request.addEvents(Event.newBuilder()
            .setType("track")
            .setUserId("ada")
            .setMessageId(source + "-" + number + "-" + index)
            .setEvent(index % 2 == 0 ? "Order Viewed" : "Order Completed"));
      }
      requests.add(request.build());
    }
    return requests;
  }

  /** Sends all requests. After a break it sends those that are not acknowledged on a new stream. */
  private void streamEvents(String writeKey, List<StreamEventsRequest> requests) throws InterruptedException {
    int durable = 0;
    for (int streams = 0; streams < MAX_STREAMS; streams++) {
      AtomicInteger acknowledged = new AtomicInteger();
      Status status = streamOnce(writeKey, requests.subList(durable, requests.size()), acknowledged);
      durable += acknowledged.get();
      if (durable == requests.size()) {
        System.out.printf("streamed %d requests%n", durable);
        return;
      }
      if (!RETRIED.contains(status.getCode())) {
        throw status.asRuntimeException();
      }
      System.out.printf("the stream broke after %d requests%n", durable);
      Thread.sleep(1000);
    }
    throw new IllegalStateException("only " + durable + " requests are durable after " + MAX_STREAMS + " streams");
  }

  /** Sends requests on one stream, and counts in `acknowledged` how many of them are durable. Returns how it ends. */
  private Status streamOnce(String writeKey, List<StreamEventsRequest> requests, AtomicInteger acknowledged)
      throws InterruptedException {
    CountDownLatch ended = new CountDownLatch(1);
    AtomicReference<Status> end = new AtomicReference<>(Status.UNAVAILABLE);
    var stub = EventServiceGrpc.newStub(channel)
        .withCallCredentials(new Key(writeKey))
        .withDeadlineAfter(60, TimeUnit.SECONDS);
    StreamObserver<StreamEventsRequest> stream = stub.streamEvents(new StreamObserver<>() {
      @Override
      public void onNext(StreamEventsResponse response) {
        acknowledged.set((int) response.getRequests());
      }

      @Override
      public void onError(Throwable error) {
        end.set(Status.fromThrowable(error));
        ended.countDown();
      }

      @Override
      public void onCompleted() {
        end.set(Status.OK);
        ended.countDown();
      }
    });
    requests.forEach(stream::onNext);
    stream.onCompleted();
    ended.await(60, TimeUnit.SECONDS);
    return end.get();
  }

  /** Reads the stored events of the source in pages, once all of them are stored. */
  private void readEvents(int source) throws InterruptedException {
    var events = EventServiceGrpc.newBlockingStub(channel).withCallCredentials(manager);
    for (int attempt = 0; attempt < 100; attempt++) {
      List<Event> stored = new ArrayList<>();
      int pages = 0;
      var request = ListEventsRequest.newBuilder()
          .addConnectionIds(source)
          .setOrder("receivedAt")
          .setAscending(true)
          .setLimit(40);
      do {
        ListEventsResponse page = events.listEvents(request.build());
        stored.addAll(page.getEventsList());
        pages++;
        request.setPageToken(page.getNextPageToken());
      } while (!request.getPageToken().isEmpty());
      if (stored.size() == 100) {
        System.out.printf("read %d events in %d pages%n", stored.size(), pages);
        return;
      }
      Thread.sleep(200);
    }
    throw new IllegalStateException("the events are not stored");
  }

  /** Sends a request without a name. Programs decide by the reason, and show the field. */
  private static void handleAnError(ConnectionServiceGrpc.ConnectionServiceBlockingStub connections)
      throws InvalidProtocolBufferException {
    try {
      var nameless = CreateConnectionRequest.newBuilder().setRole("Source").setConnector("http");
      connections.createConnection(nameless.build());
    } catch (StatusRuntimeException error) {
      for (Any detail : StatusProto.fromThrowable(error).getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          ErrorInfo info = detail.unpack(ErrorInfo.class);
          String field = info.getMetadataOrDefault("field", "");
          System.out.printf("error %s in %s: %s%n", info.getReason(), field, error.getStatus().getDescription());
        }
      }
    }
  }

  /** A key as the credentials of calls. */
  private static final class Key extends CallCredentials {
    private static final Metadata.Key<String> AUTHORIZATION =
        Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

    private final Metadata headers = new Metadata();

    Key(String key) {
      headers.put(AUTHORIZATION, "Bearer " + key);
    }

    @Override
    public void applyRequestMetadata(RequestInfo request, Executor executor, MetadataApplier applier) {
      applier.apply(headers);
    }
  }
}
