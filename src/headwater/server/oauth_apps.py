"""The connectors with OAuth that an installation registers, and their settings.

The settings of a connector `x` are `oauth_x_client_id`, `oauth_x_client_secret` and, for some, `oauth_x_url`.
"""

from collections.abc import Iterator
from typing import Final

OAUTH_APPS: Final = {
    "hubspot": ("client_id",),
    "salesforce": ("client_id",),
    "sample_oauth_app": ("client_id", "url"),
}
"""The connectors, and the settings that each needs if another one of it is given."""
OAUTH_SETTINGS: Final = ("client_id", "client_secret", "url")


def missing_settings(settings: object) -> Iterator[str]:
    """Return the names of the settings that others need. A process may lack the secret."""
    for app, required in OAUTH_APPS.items():
        given = [name for name in OAUTH_SETTINGS if getattr(settings, f"oauth_{app}_{name}", None)]
        yield from (f"oauth_{app}_{name}" for name in required if given and name not in given)
