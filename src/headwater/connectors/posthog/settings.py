"""The settings of a PostHog project: on PostHog's cloud, or on a server of one's own."""

import re
from typing import Annotated, ClassVar, Final, Literal

from headwater.connectors.addresses import find_broken_url_rule
from headwater.connectors.settings import Choice, Format, Group, Settings, Text

CLOUD: Final = {"US": "https://us.i.posthog.com", "EU": "https://eu.i.posthog.com"}


class PostHogCloud(Settings, frozen=True, kw_only=True):
    """A project on PostHog's cloud."""

    project_region: Annotated[Literal["US", "EU"], Choice(help="The region that the project was created in.")]


class PostHogSelfHosted(Settings, frozen=True, kw_only=True):
    """A project on another server."""

    url: Annotated[
        str,
        Text(
            1,
            1_000,
            Format(re.compile("https?://[!-~]+"), "must be an HTTP URL"),
            find_broken_url_rule,
            label="URL",
            help="The URL of your PostHog server, without a path.",
        ),
    ]


class PostHogSettings(Settings, frozen=True, kw_only=True):
    """The settings of one connection."""

    ONE_OF: ClassVar = ("cloud", "selfHosted")

    api_key: Annotated[
        str,
        Text(
            24,
            100,
            Format(re.compile("phc_[0-9A-Za-z_-]+"), "must be phc_ and letters and digits"),
            secret=True,
            help="The key of the project. It starts with phc_.",
        ),
    ]
    cloud: Annotated[PostHogCloud | None, Group()] = None
    self_hosted: Annotated[PostHogSelfHosted | None, Group()] = None

    @property
    def origin(self) -> str:
        """Return the beginning of all URLs, without a slash at the end."""
        if self.cloud is not None:
            return CLOUD[self.cloud.project_region]
        return "" if self.self_hosted is None else self.self_hosted.url.rstrip("/")
