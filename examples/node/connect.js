// A typed client with Connect-ES over gRPC: creates a source, streams events to it, and reads them.
// URL is the address of the server and KEY an API key, as in README.md.

import { setTimeout as sleep } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { ConnectionService } from "./gen/headwater/v1/connections_pb.js";
import { EventService, StreamEventsRequestSchema } from "./gen/headwater/v1/events_pb.js";
import { PipelineService } from "./gen/headwater/v1/pipelines_pb.js";

const MAX_STREAMS = 10;
const RETRIED = [Code.Unavailable, Code.Internal, Code.ResourceExhausted, Code.Aborted, Code.Canceled];

const transport = createGrpcTransport({ baseUrl: process.env.URL });
const manager = { headers: { authorization: `Bearer ${process.env.KEY}` }, timeoutMs: 10_000 };
const connections = createClient(ConnectionService, transport);
const pipelines = createClient(PipelineService, transport);
const events = createClient(EventService, transport);

// Create a source and a pipeline that stores its orders. Return the source's id and its write key.
async function createSource() {
  const { id } = await connections.createConnection({ name: "Shop", role: "Source", connector: "http" }, manager);
  const condition = { property: "event", operator: "is", values: ["Order Completed"] };
  const filter = { logical: "and", conditions: [condition] };
  const pipeline = { connection: id, target: "Event", name: "Store orders", enabled: true, filter };
  const created = await pipelines.createPipeline(pipeline, manager);
  console.log(`created source ${id} with pipeline ${created.id}`);
  const { keys } = await connections.listEventWriteKeys({ id }, manager);
  return { id, writeKey: keys[0] };
}

// Make 20 requests with 10 events each. An event with a message id is stored once, however often it is sent.
function makeRequests(source) {
  return Array.from({ length: 20 }, (_, request) =>
    create(StreamEventsRequestSchema, {
      events: Array.from({ length: 10 }, (_, index) => ({
        type: "track",
        userId: "ada",
        messageId: `${source}-${request}-${index}`,
        event: index % 2 ? "Order Completed" : "Order Viewed",
      })),
    }),
  );
}

// Send all requests. After a break, send those that are not acknowledged on a new stream.
async function streamEvents(writeKey, requests) {
  const options = { headers: { authorization: `Bearer ${writeKey}` }, timeoutMs: 60_000 };
  let durable = 0;
  for (let streams = 0; streams < MAX_STREAMS && durable < requests.length; streams++) {
    const begin = durable;
    async function* rest() {
      yield* requests.slice(begin);
    }
    try {
      for await (const response of events.streamEvents(rest(), options)) {
        durable = begin + Number(response.requests);
      }
    } catch (error) {
      if (!RETRIED.includes(ConnectError.from(error).code)) throw error;
      console.log(`the stream broke after ${durable} requests`);
      await sleep(1000);
    }
  }
  if (durable < requests.length) throw new Error(`only ${durable} requests are durable`);
  console.log(`streamed ${durable} requests`);
}

async function* listPages(source) {
  const request = { connectionIds: [source], order: "receivedAt", ascending: true, limit: 40, pageToken: "" };
  do {
    const page = await events.listEvents(request, manager);
    yield page.events;
    request.pageToken = page.nextPageToken;
  } while (request.pageToken);
}

// Read the stored events of the source in pages, once all of them are stored.
async function readEvents(source) {
  for (let attempt = 0; attempt < 100; attempt++) {
    const pages = [];
    for await (const page of listPages(source)) pages.push(page);
    if (pages.flat().length === 100) {
      console.log(`read 100 events in ${pages.length} pages`);
      return;
    }
    await sleep(200);
  }
  throw new Error("the events are not stored");
}

// Send a request without a name. Programs decide by the reason, and show the field.
async function handleAnError() {
  try {
    await connections.createConnection({ role: "Source", connector: "http" }, manager);
  } catch (error) {
    const failure = ConnectError.from(error);
    for (const info of failure.findDetails(ErrorInfoSchema)) {
      console.log(`error ${info.reason} in ${info.metadata.field}: ${failure.rawMessage}`);
    }
  }
}

const { id, writeKey } = await createSource();
await streamEvents(writeKey, makeRequests(id));
await readEvents(id);
await handleAnError();
