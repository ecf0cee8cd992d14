"""The sample OAuth app: users that are read, and events that are posted, with access that a user grants by OAuth 2.

It is the reference implementation of `OAuthProvider`. Its provider is any server at the URL of the deployment's
configuration with these endpoints:

| endpoint | use |
| --- | --- |
| `GET /oauth/authorize` | the consent page |
| `POST /oauth/token` | tokens for codes and refresh tokens (RFC 6749, PKCE with S256) |
| `GET /api/account` | `{"id": …}`, the account of the access token |
| `GET /api/users?offset=…&limit=…` | `{"users": [{"id", "email", "name", "updatedAt"}]}` |
| `POST /api/events` | `{"events": […]}`, a batch |
"""

from typing import Final

from headwater.connectors.connector import Capabilities, Connector, OAuthSupport, Terms
from headwater.connectors.contract import Engine
from headwater.connectors.sample_oauth_app.authorization import SampleAuthorization
from headwater.connectors.sample_oauth_app.events import SampleEventSink
from headwater.connectors.sample_oauth_app.users import SampleUsers

CONNECTOR: Final = Connector(
    code="sample-oauth-app",
    label="Sample OAuth app",
    type="Application",
    categories=("Test",),
    source=Capabilities(targets=("User",), summary="Import the users of an application that requires authorization."),
    destination=Capabilities(
        targets=("Event",),
        sending_modes=("Server",),
        summary="Send events to an application that requires authorization.",
    ),
    available=True,
    terms=Terms("User", "Users", "User ID"),
    engine=Engine(
        user_source=lambda _settings, context: SampleUsers(context),
        event_sink=lambda _settings, context: SampleEventSink(context),
        oauth=lambda _settings, context: SampleAuthorization(context),
    ),
    oauth=OAuthSupport(),
    is_sample=True,
)

__all__ = ["CONNECTOR"]
