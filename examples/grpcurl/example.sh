#!/bin/sh
# A client with grpcurl, which learns the calls from the server's reflection: creates a source, streams events to it, and
# reads them. URL is the address of the server and KEY an API key, as in README.md.
set -eu

address=${URL#*//}

call() {
    key=$1 method=$2
    shift 2
    grpcurl -plaintext -H "authorization: Bearer $key" -max-time 30 "$@" "$address" "headwater.v1.$method"
}

# A source, and a pipeline that stores its orders.
source=$(call "$KEY" ConnectionService/CreateConnection \
    -d '{"name": "Shop", "role": "Source", "connector": "http"}' | tr -dc 0-9)
filter='{"logical": "and", "conditions": [{"property": "event", "operator": "is", "values": ["Order Completed"]}]}'
pipeline=$(call "$KEY" PipelineService/CreatePipeline \
    -d '{"connection": '"$source"', "target": "Event", "name": "Store orders", "enabled": true, "filter": '"$filter"'}' |
    tr -dc 0-9)
echo "created source $source with pipeline $pipeline"
write_key=$(call "$KEY" ConnectionService/ListEventWriteKeys -d '{"id": '"$source"'}' |
    sed -n 's/^ *"\([^"]*\)",*$/\1/p' | head -1)

# 20 requests with 10 events each, one request a line. An event with a message id is stored once, however often it is sent.
requests() {
    for request in $(seq 0 19); do
        events=
        for index in $(seq 0 9); do
            name="Order Viewed"
            [ $((index % 2)) -eq 0 ] || name="Order Completed"
            id="$source-$request-$index"
            events="$events${events:+,}{\"type\": \"track\", \"userId\": \"ada\", \"messageId\": \"$id\", \"event\": \"$name\"}"
        done
        echo "{\"events\": [$events]}"
    done
}

# Send all requests. After a break, send those that are not acknowledged on a new stream.
durable=0
streams=0
while [ "$durable" -lt 20 ]; do
    streams=$((streams + 1))
    [ "$streams" -le 10 ] || { echo "only $durable requests are durable" >&2; exit 1; }
    responses=$(requests | tail -n +$((durable + 1)) | call "$write_key" EventService/StreamEvents -d @ || true)
    acknowledged=$(printf '%s\n' "$responses" | sed -n 's/.*"requests": "\([0-9]*\)".*/\1/p' | tail -1)
    durable=$((durable + ${acknowledged:-0}))
    [ "$durable" -eq 20 ] || { echo "the stream broke after $durable requests"; sleep 1; }
done
echo "streamed $durable requests"

# Read the stored events of the source in pages, once all of them are stored.
attempts=0
stored=0
while [ "$stored" -lt 100 ]; do
    attempts=$((attempts + 1))
    [ "$attempts" -le 50 ] || { echo "the events are not stored" >&2; exit 1; }
    token="" pages=0 stored=0
    while [ "$pages" -eq 0 ] || [ -n "$token" ]; do
        page=$(call "$KEY" EventService/ListEvents -d '{"connectionIds": ['"$source"'], "order": "receivedAt",
            "ascending": true, "limit": 40, "properties": ["messageId"], "pageToken": "'"$token"'"}')
        stored=$((stored + $(printf '%s\n' "$page" | grep -c messageId || true)))
        token=$(printf '%s\n' "$page" | sed -n 's/.*"nextPageToken": "\(.*\)".*/\1/p')
        pages=$((pages + 1))
    done
    [ "$stored" -eq 100 ] || sleep 0.2
done
echo "read $stored events in $pages pages"

# A request without a name. Programs decide by the reason, and show the field.
details=$(call "$KEY" ConnectionService/CreateConnection -d '{"role": "Source", "connector": "http"}' 2>&1 || true)
reason=$(printf '%s\n' "$details" | sed -n 's/.*"reason": *"\([^"]*\)".*/\1/p' | head -1)
field=$(printf '%s\n' "$details" | sed -n 's/.*"field": *"\([^"]*\)".*/\1/p' | head -1)
echo "error $reason in $field"
