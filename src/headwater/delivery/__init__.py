"""Delivery: sends events to destinations, in order for each user, until each is delivered or given up.

The lane core decides what is sent and when. It is pure: it has no clock, no asyncio and no I/O, and a simulation runs
all of it in virtual time.

| module | content |
| --- | --- |
| `items` | the values that a lane takes and returns |
| `lane` | the state machine of one destination |
| `ordering` | which event waits for which |
| `batching` | forms the batches |
| `window` | the documents in memory, within limits of items and bytes |
| `breaker` | pauses after failures, and probes |
| `backoff` | the durations of pauses |
| `concurrency` | the number of requests in flight |
| `rates` | rate limits of an account, shared by its lanes |
| `shares` | the shares of rate limits that the courier and runs have |
| `preparing` | from a queued event to what the destination gets, or the reason why it cannot be sent |
| `chunks` | the finished items and the attempts of the chunks that are being sent |
| `session` | sends the deliveries of one destination with its present settings and pipelines |
| `sender` | runs the sessions of one destination, one after another |
| `reporting` | metrics, counts of pipelines, and outcomes for those who watch |
| `dispatcher` | runs the senders of all destinations, and commits their progress |
"""
