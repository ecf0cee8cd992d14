"""The text that `headwater serve` prints when it is ready: the address, the API key or its file, and commands to copy.

A test compares the commands with those of README.md, "Five minutes".
"""

import shlex

from headwater.server.settings import Settings, variable

_COMMANDS = """\
export URL={url} KEY={key}
api() {{
    local response
    response=$(curl -sS --fail-with-body -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" "$@") &&
        printf '%s\\n' "$response" || {{ printf '%s\\n' "$response" >&2; return 1; }}
}}
export ID=$(api "$URL/v1/connections" -d '{{"name": "Shop", "role": "Source", "connector": "http"}}' | tr -dc 0-9)
api "$URL/v1/pipelines" -d '{{"connection": '"${{ID:?}}"', "target": "Event", "name": "Store events", "enabled": true}}'
api "$URL/v1/pipelines" -d '{{"connection": '"${{ID:?}}"', "target": "User", "name": "Learn users", "enabled": true}}'
export WRITE_KEY=$(api "$URL/v1/connections/${{ID:?}}/event-write-keys" | cut -d '"' -f 4)
curl -sS "$URL/v1/track?verbose=true" -u "${{WRITE_KEY:?}}:" \\
    -d '{{"messageId": "m1", "userId": "ada", "event": "Order Completed", "properties": {{"total": 9.5}}}}'
sleep 1
api "$URL/v1/events"
"""


def text(settings: Settings, *, first_start: bool) -> str:
    """Return the lines to print. A generated key is shown at the first start only; the operator's own key is never
    shown."""
    path = settings.api_key_path
    if settings.api_key is not None:
        about_key, key = f"the one in {variable('api_key')}", f'"${variable("api_key")}"'
    elif path.is_file():
        about_key, key = f"in {path}", f"$(cat {shlex.quote(str(path))})"
        if first_start:
            about_key = f"{path.read_text().strip()} (kept {about_key})"
    else:
        about_key, key = "the one that was given at the first start", "..."
    return (
        f"\nHeadwater is ready on {settings.base_url} (Ctrl-C stops it)\n"
        f"API key: {about_key}\n\n"
        f"Send a first event and read it back, in another terminal:\n\n"
        f"{_COMMANDS.format(url=settings.base_url, key=key)}"
    )
