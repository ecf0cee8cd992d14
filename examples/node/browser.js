// A typed client for web pages with Connect-ES, over gRPC-Web or the Connect protocol: creates a source, sends events to
// it, and reads them. A page can use it if it has the same origin as the server, and its users may know the API key.

import { createClient, ConnectError } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { ConnectionService } from "./gen/headwater/v1/connections_pb.js";
import { EventService } from "./gen/headwater/v1/events_pb.js";
import { PipelineService } from "./gen/headwater/v1/pipelines_pb.js";

const MAX_ATTEMPTS = 10;
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// Run all steps, and report each. `protocol` is "grpc-web" or "connect".
export async function run(baseUrl, key, protocol, report) {
  const makeTransport = protocol === "grpc-web" ? createGrpcWebTransport : createConnectTransport;
  const transport = makeTransport({ baseUrl });
  const manager = { headers: { authorization: `Bearer ${key}` }, timeoutMs: 10_000 };
  const connections = createClient(ConnectionService, transport);
  const events = createClient(EventService, transport);

  // A source, and a pipeline that stores its orders.
  const { id } = await connections.createConnection({ name: "Shop", role: "Source", connector: "http" }, manager);
  const condition = { property: "event", operator: "is", values: ["Order Completed"] };
  const filter = { logical: "and", conditions: [condition] };
  const pipeline = { connection: id, target: "Event", name: "Store orders", enabled: true, filter };
  const created = await createClient(PipelineService, transport).createPipeline(pipeline, manager);
  report(`created source ${id} with pipeline ${created.id}`);

  // Browsers have no streams of requests: send each request until it is acknowledged. Its events are stored once.
  const { keys } = await connections.listEventWriteKeys({ id }, manager);
  const source = { headers: { authorization: `Bearer ${keys[0]}` }, timeoutMs: 10_000 };
  for (const request of makeRequests(id)) {
    for (let attempt = 1; ; attempt++) {
      try {
        await events.sendEvents(request, source);
        break;
      } catch (error) {
        if (attempt === MAX_ATTEMPTS) throw error;
        report(`a request failed: ${ConnectError.from(error).message}`);
        await sleep(200);
      }
    }
  }
  report("streamed 20 requests");

  report(`read 100 events in ${await readEvents(id, events, manager)} pages`);

  // A request without a name. Programs decide by the reason, and show the field.
  try {
    await connections.createConnection({ role: "Source", connector: "http" }, manager);
  } catch (error) {
    const failure = ConnectError.from(error);
    for (const info of failure.findDetails(ErrorInfoSchema)) {
      report(`error ${info.reason} in ${info.metadata.field}: ${failure.rawMessage}`);
    }
  }
}

// Make 20 requests with 10 events each.
function makeRequests(source) {
  return Array.from({ length: 20 }, (_, request) => ({
    events: Array.from({ length: 10 }, (_, index) => ({
      type: "track",
      userId: "ada",
      messageId: `${source}-${request}-${index}`,
      event: index % 2 ? "Order Completed" : "Order Viewed",
    })),
  }));
}

// Read the stored events of the source in pages, once all of them are stored. Return the number of pages.
async function readEvents(source, events, manager) {
  for (let attempt = 0; attempt < 100; attempt++) {
    const request = { connectionIds: [source], order: "receivedAt", ascending: true, limit: 40, pageToken: "" };
    const pages = [];
    do {
      const page = await events.listEvents(request, manager);
      pages.push(page.events);
      request.pageToken = page.nextPageToken;
    } while (request.pageToken);
    if (pages.flat().length === 100) return pages.length;
    await sleep(200);
  }
  throw new Error("the events are not stored");
}
