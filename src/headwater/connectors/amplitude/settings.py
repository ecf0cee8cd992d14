"""The settings of an Amplitude project."""

from typing import Annotated, Literal

from headwater.connectors.settings import VISIBLE, Choice, Settings, Text


class AmplitudeSettings(Settings, frozen=True, kw_only=True):
    """The settings of one connection."""

    api_key: Annotated[str, Text(1, 255, VISIBLE, secret=True, help="The API key of the project.")]
    server_zone: Annotated[Literal["US", "EU"], Choice(help="Where the project has its data.")]
