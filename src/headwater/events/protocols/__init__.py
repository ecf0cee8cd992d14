"""The protocols in which events arrive, each a package or module with the functions of `WireProtocol`."""

from typing import Final

from headwater.events.protocol import ProtocolName, WireProtocol
from headwater.events.protocols import client, native, track, typed

PROTOCOLS: Final[dict[ProtocolName, WireProtocol]] = {"track": track, "grpc": typed, "client": client, "native": native}

__all__ = ["PROTOCOLS"]
