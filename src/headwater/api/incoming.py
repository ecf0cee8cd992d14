"""A call with events as the intake takes it, from its body and its metadata: the same for every dialect."""

from headwater.api.call import caller_address
from headwater.events import ProtocolName
from headwater.intake import IncomingCall


def incoming_call(protocol: ProtocolName, call: str, body: bytes, metadata: dict[str, str]) -> IncomingCall:
    """The call `call` of a dialect."""
    return IncomingCall(
        protocol=protocol,
        call=call,
        body=body,
        authorization=metadata.get("authorization"),
        content_encoding=metadata.get("content-encoding"),
        ip=caller_address(metadata),
        user_agent=metadata.get("user-agent", ""),
    )
