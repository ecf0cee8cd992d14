"""Headers of requests that several connectors send."""

from collections.abc import Mapping
from typing import Final

JSON_HEADERS: Final[Mapping[str, str]] = {"content-type": "application/json"}
"""The headers of a request that has a JSON body and its credentials elsewhere."""
