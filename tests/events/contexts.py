"""Contexts for hypothesis: those of SDKs, similar ones, and any JSON."""

import json
from typing import Any

from hypothesis import strategies as st

from headwater.schemas import EVENT_SCHEMA, ObjectType, property_at
from tests.jsontexts import json_values

USER_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"


def _members(path: str) -> list[str]:
    type_ = property_at(EVENT_SCHEMA, path).type
    return [property_.name for property_ in type_.properties] if isinstance(type_, ObjectType) else []


_PLAUSIBLE: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(
        ["", "Chrome", "chrome", "iPadOS", "Other", "7", "007", "en_us", "203.0.113.9", "0.0.0.0", "255.255.255.0"]
    ),
    st.sampled_from([USER_AGENT, "okhttp/4.12.0", "1.2.3.4.5", "::FFFF:1.2.3.4", "fe80::1%eth0", "x\0"]),
    st.sampled_from([0, 1, 32767, 32768, 2.625, 2.5, 9.999, 2**62, 2**63, True, False, None, {}]),
    json_values,
)
_NAMES = [*_members("context"), "sessionId", "sessionStart", "channel", "active", "traits"]


@st.composite
def contexts(draw: st.DrawFn) -> dict[str, Any]:
    """The members of a context."""
    context: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from(_NAMES), max_size=6, unique=True)):
        members = _members(f"context.{name}") if name in _members("context") else []
        sections = st.dictionaries(st.sampled_from([*members, "purpose"]), _PLAUSIBLE, max_size=4)
        context[name] = draw(st.one_of(sections, _PLAUSIBLE) if members or name == "consents" else _PLAUSIBLE)
    return context


def context_texts() -> st.SearchStrategy[bytes]:
    """Contexts as JSON."""
    return contexts().map(lambda context: json.dumps(context).encode())
