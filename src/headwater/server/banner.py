"""What `headwater serve` prints when it is ready: the address, the API key or its place, and commands to copy."""

import shlex

from headwater.server.settings import Settings, variable

_COMMANDS = """\
  URL={url} KEY={key}
  post() {{ curl -sS "$URL$1" -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' -d "$2"; }}
  ID=$(post /v1/connections '{{"name":"My app","role":"Source","connector":"http"}}' | tr -dc 0-9)
  WRITE_KEY=$(post "/v1/connections/$ID/event-write-keys" '' | cut -d '"' -f 4)
  post /v1/pipelines '{{"connection":'"$ID"',"target":"Event","name":"Events","enabled":true}}'
  post /v1/pipelines '{{"connection":'"$ID"',"target":"User","name":"People","enabled":true}}'
  curl -sS "$URL/v1/track" -u "$WRITE_KEY:" -d '{{"userId":"ada","event":"Order Completed"}}'
  sleep 1; curl -sS "$URL/v1/events" -H "Authorization: Bearer $KEY"
"""


def text(settings: Settings, *, first_start: bool) -> str:
    """The lines to print. The key itself is shown at the first start only, and never one that the operator chose."""
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
