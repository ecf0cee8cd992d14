// A REST client with openapi-fetch and types of openapi-typescript: creates a source, sends events to it, and reads them.
// URL is the address of the server and KEY an API key, as in README.md.

import createClient from "openapi-fetch";
import type { components, paths } from "./gen/openapi.js";

type StoredEvent = components["schemas"]["StoredEvent"];
type Batch = components["schemas"]["BatchCall"];

declare const process: { env: { URL: string; KEY: string } };
const MAX_ATTEMPTS = 10;
const baseUrl = process.env.URL;
const manager = createClient<paths>({ baseUrl, headers: { authorization: `Bearer ${process.env.KEY}` } });
const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

function must<T>(response: { data?: T; error?: unknown }): T {
  if (response.data === undefined) throw new Error(JSON.stringify(response.error));
  return response.data;
}

// Create a source and a pipeline that stores its orders. Return the source's id and its write key.
async function createSource(): Promise<{ id: number; writeKey: string }> {
  const connection = { name: "Shop", role: "Source", connector: "http" } as const;
  const { id } = must(await manager.POST("/v1/connections", { body: connection }));
  const condition = { property: "event", operator: "is", values: ["Order Completed"] } as const;
  const filter = { logical: "and", conditions: [{ ...condition, values: [...condition.values] }] };
  const pipeline = { connection: id, target: "Event", name: "Store orders", enabled: true, filter } as const;
  const created = must(await manager.POST("/v1/pipelines", { body: pipeline }));
  console.log(`created source ${id} with pipeline ${created.id}`);
  const listed = must(await manager.GET("/v1/connections/{id}/event-write-keys", { params: { path: { id } } }));
  return { id, writeKey: listed.keys[0]! };
}

// Make 20 batches with 10 events each. An event with a message id is stored once, however often it is sent.
function makeBatches(source: number): Batch[] {
  return Array.from({ length: 20 }, (_, number) => ({
    batch: Array.from({ length: 10 }, (_, index) => ({
      type: "track" as const,
      userId: "ada",
      messageId: `${source}-${number}-${index}`,
      event: index % 2 ? "Order Completed" : "Order Viewed",
    })),
  }));
}

// Send each batch until the server has it.
async function sendEvents(writeKey: string, batches: Batch[]): Promise<void> {
  const client = createClient<paths>({ baseUrl, headers: { authorization: `Bearer ${writeKey}` } });
  const params = { header: { "X-Strict-Mode": "1" } } as const;
  for (const body of batches) {
    for (let attempt = 1; ; attempt++) {
      try {
        const { response, error } = await client.POST("/v1/batch", { params, body });
        if (response.ok) break;
        if (![429, 503].includes(response.status)) throw new Error(JSON.stringify(error));
      } catch (error) {
        if (!(error instanceof TypeError) || attempt === MAX_ATTEMPTS) throw error; // fetch could not connect
        console.log(`a request failed: ${error.message}`);
      }
      await sleep(200);
    }
  }
  console.log(`streamed ${batches.length} requests`);
}

// Read the stored events of the source in pages, once all of them are stored.
async function readEvents(source: number): Promise<void> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const stored: StoredEvent[] = [];
    let pages = 0;
    let pageToken = "";
    do {
      const query = { connection: [source], order: "receivedAt", ascending: true, limit: 40, pageToken } as const;
      const page = must(await manager.GET("/v1/events", { params: { query: { ...query, connection: [source] } } }));
      stored.push(...page.events);
      pageToken = page.nextPageToken;
      pages++;
    } while (pageToken);
    if (stored.length === 100) {
      console.log(`read ${stored.length} events in ${pages} pages`);
      return;
    }
    await sleep(200);
  }
  throw new Error("the events are not stored");
}

// Send a request with an empty name. Programs decide by the code and the field, and show the message.
async function handleAnError(): Promise<void> {
  const { error } = await manager.POST("/v1/connections", { body: { name: "", role: "Source", connector: "http" } });
  if (error?.error.code !== "BadRequest" || error.error.field !== "name") throw new Error(JSON.stringify(error));
  console.log(`error ${error.error.code} in ${error.error.field}: ${error.error.message}`);
}

const { id, writeKey } = await createSource();
await sendEvents(writeKey, makeBatches(id));
await readEvents(id);
await handleAnError();
