// A client with @grpc/grpc-js, which reads the protos when it starts: creates a source, streams events to it, and reads
// them. URL is the address of the server and KEY an API key, as in README.md.

import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const FILES = ["connections", "events", "pipelines"].map((name) => `headwater/v1/${name}.proto`);
const MAX_STREAMS = 10;
const RETRIED = [grpc.status.UNAVAILABLE, grpc.status.INTERNAL, grpc.status.RESOURCE_EXHAUSTED];

const root = new URL("../../", import.meta.url).pathname;
const definition = loader.loadSync([...FILES, "google/rpc/status.proto", "google/rpc/error_details.proto"], {
  includeDirs: [`${root}protos`, `${root}third_party/googleapis`],
  defaults: true,
  longs: Number,
});
const { headwater } = grpc.loadPackageDefinition(definition);
const { host } = new URL(process.env.URL);
const credentials = grpc.credentials.createInsecure();
const manager = metadata(process.env.KEY);
const connections = new headwater.v1.ConnectionService(host, credentials);
const pipelines = new headwater.v1.PipelineService(host, credentials);
const events = new headwater.v1.EventService(host, credentials);

function metadata(key) {
  const made = new grpc.Metadata();
  made.set("authorization", `Bearer ${key}`);
  return made;
}

function call(client, method, request) {
  return promisify(client[method].bind(client))(request, manager, { deadline: Date.now() + 10_000 });
}

// Create a source and a pipeline that stores its orders. Return the source's id and its write key.
async function createSource() {
  const connection = { name: "Shop", role: "Source", connector: "http" };
  const { id } = await call(connections, "CreateConnection", connection);
  const condition = { property: "event", operator: "is", values: ["Order Completed"] };
  const filter = { logical: "and", conditions: [condition] };
  const pipeline = { connection: id, target: "Event", name: "Store orders", enabled: true, filter };
  const created = await call(pipelines, "CreatePipeline", pipeline);
  console.log(`created source ${id} with pipeline ${created.id}`);
  const { keys } = await call(connections, "ListEventWriteKeys", { id });
  return { id, writeKey: keys[0] };
}

// Make 20 requests with 10 events each. An event with a message id is stored once, however often it is sent.
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

// Send all requests. After a break, send those that are not acknowledged on a new stream.
async function streamEvents(writeKey, requests) {
  let durable = 0;
  for (let streams = 0; streams < MAX_STREAMS && durable < requests.length; streams++) {
    const begin = durable;
    const stream = events.StreamEvents(metadata(writeKey), { deadline: Date.now() + 60_000 });
    for (const request of requests.slice(begin)) stream.write(request);
    stream.end();
    try {
      for await (const response of stream) durable = begin + response.requests;
    } catch (error) {
      if (!RETRIED.includes(error.code)) throw error;
      console.log(`the stream broke after ${durable} requests`);
      await sleep(1000);
    }
  }
  if (durable < requests.length) throw new Error(`only ${durable} requests are durable`);
  console.log(`streamed ${durable} requests`);
}

async function listPages(source) {
  const pages = [];
  let pageToken = "";
  do {
    const request = { connectionIds: [source], order: "receivedAt", ascending: true, limit: 40, pageToken };
    const page = await call(events, "ListEvents", request);
    pages.push(page.events);
    pageToken = page.nextPageToken;
  } while (pageToken);
  return pages;
}

// Read the stored events of the source in pages, once all of them are stored.
async function readEvents(source) {
  for (let attempt = 0; attempt < 100; attempt++) {
    const pages = await listPages(source);
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
  const decode = (type, bytes) => definition[`google.rpc.${type}`].deserialize(bytes);
  try {
    await call(connections, "CreateConnection", { role: "Source", connector: "http" });
  } catch (error) {
    const [details] = error.metadata.get("grpc-status-details-bin");
    for (const { type_url, value } of decode("Status", details).details) {
      if (!type_url.endsWith("/google.rpc.ErrorInfo")) continue;
      const { reason, metadata } = decode("ErrorInfo", value);
      console.log(`error ${reason} in ${metadata.field}: ${error.details}`);
    }
  }
}

const { id, writeKey } = await createSource();
await streamEvents(writeKey, makeRequests(id));
await readEvents(id);
await handleAnError();
for (const client of [connections, pipelines, events]) client.close();
