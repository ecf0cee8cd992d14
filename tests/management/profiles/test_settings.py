"""Settings of identity resolution: identifiers, guards, and the rules of both."""

from typing import Any

import pytest

from headwater.base.errors import HeadwaterError
from headwater.catalog import Identifier, ProfileSchema, ResolutionSettings
from headwater.management.profiles import GuardsRequest, SettingsRequest, check_settings, identifier_schema
from tests.management.profiles.schemas import TYPES, profile

SCHEMA = profile(email="string", name=profile(first="string"), **{f"p{number}": "int" for number in range(11)}, **TYPES)
PROFILES = ProfileSchema(schema=SCHEMA)


def settings(*identifiers: str, guards: list[dict[str, Any]] | None = None, **members: Any) -> ResolutionSettings:
    """Check settings whose guards are those of the email unless they say otherwise."""
    asked = tuple(GuardsRequest(**{"identifier": "email", **each}) for each in guards or ())
    profiles = members.pop("profiles", PROFILES)
    return check_settings(SettingsRequest(identifiers=identifiers, guards=asked, **members), profiles)


def failure(*identifiers: str, **members: Any) -> tuple[str, str | None]:
    with pytest.raises(HeadwaterError) as caught:
        settings(*identifiers, **members)
    return caught.value.code, caught.value.field


def test_no_settings_are_a_reset() -> None:
    assert settings() == ResolutionSettings(run_on_batch_import=False)
    assert settings(run_on_batch_import=True, profiles=None) == ResolutionSettings()


def test_identifiers_keep_their_order_and_have_default_guards() -> None:
    assert settings("name.first", "email").identifiers == (Identifier(path="name.first"), Identifier(path="email"))
    assert len(settings(*(f"p{number}" for number in range(10))).identifiers) == 10


@pytest.mark.parametrize(
    ("identifiers", "error"),
    [
        (("",), ("BadRequest", "identifiers[0]")),
        (("email", "a b"), ("BadRequest", "identifiers[1]")),
        (("name.",), ("BadRequest", "identifiers[0]")),
        (("a" * 1_025,), ("BadRequest", "identifiers[0]")),
        (("email", "p1", "email"), ("BadRequest", "identifiers[2]")),
        (tuple(f"p{number}" for number in range(11)), ("BadRequest", "identifiers")),
        (("zip",), ("PropertyNotExist", "identifiers[0]")),
        (("email", "name.last"), ("PropertyNotExist", "identifiers[1]")),
        (("map.key",), ("PropertyNotExist", "identifiers[0]")),
        (("Email",), ("PropertyNotExist", "identifiers[0]")),
        (("name",), ("TypeNotAllowed", "identifiers[0]")),
        # Malformed members are named before missing ones.
        (("zip", ""), ("BadRequest", "identifiers[1]")),
    ],
)
def test_invalid_identifiers(identifiers: tuple[str, ...], error: tuple[str, str]) -> None:
    assert failure(*identifiers) == error


def test_without_a_schema_there_are_no_identifiers() -> None:
    assert failure("email", profiles=None) == ("PropertyNotExist", "identifiers[0]")


SUITABLE = ("string", "short", "int", "whole", "uuid", "ip")


@pytest.mark.parametrize("type_", TYPES)
def test_types_of_identifiers(type_: str) -> None:
    if type_ in SUITABLE:
        assert settings(type_).identifiers == (Identifier(path=type_),)
    else:
        assert failure(type_) == ("TypeNotAllowed", "identifiers[0]")


def test_the_schema_of_suitable_properties() -> None:
    schema = profile(**TYPES, a=profile(x="string", y="json"), b=profile(y="json"))
    expected = profile(**{name: TYPES[name] for name in SUITABLE}, a=profile(x="string"))
    found = identifier_schema(schema)
    assert found is not None and sorted(found, key=str) == sorted(expected, key=str)
    assert identifier_schema(profile(a="json")) is None


def test_guards() -> None:
    guards = {
        "blocked_values": ("x@y.org", " "),
        "blocked_presets": ("ZerosAndDashes", "EmptyWords"),
        "max_identities": 10_000,
        "max_values": 1_000,
        "allow_blank": True,
    }
    assert settings("email", "p1", guards=[guards, {"identifier": "p1", "max_identities": 1, "max_values": 1}]) == (
        ResolutionSettings(
            run_on_batch_import=False,
            identifiers=(
                Identifier(
                    path="email",
                    blocked_values=("x@y.org", " "),
                    blocked_presets=("EmptyWords", "ZerosAndDashes"),
                    max_identities=10_000,
                    max_values=1_000,
                    allows_blank=True,
                ),
                Identifier(path="p1", max_identities=1, max_values=1),
            ),
        )
    )
    assert settings("email", guards=[{}]) == settings("email")


@pytest.mark.parametrize(
    ("guards", "field"),
    [
        ({"identifier": "p1"}, "identifier"),
        ({"identifier": ""}, "identifier"),
        ({"blocked_values": ("",)}, "blockedValues[0]"),
        ({"blocked_values": ("a", "x" * 1_025)}, "blockedValues[1]"),
        ({"blocked_values": ("a\0b",)}, "blockedValues[0]"),
        ({"blocked_values": ("a", "a")}, "blockedValues"),
        ({"blocked_values": tuple(map(str, range(1_001)))}, "blockedValues"),
        ({"blocked_presets": ("Zeros",)}, "blockedPresets[0]"),
        ({"blocked_presets": ("EmptyWords", "")}, "blockedPresets[1]"),
        ({"blocked_presets": ("EmptyWords", "EmptyWords")}, "blockedPresets"),
        ({"max_identities": 0}, "maxIdentities"),
        ({"max_identities": -1}, "maxIdentities"),
        ({"max_identities": 10_001}, "maxIdentities"),
        ({"max_values": 0}, "maxValues"),
        ({"max_values": 1_001}, "maxValues"),
    ],
)
def test_invalid_guards(guards: dict[str, Any], field: str) -> None:
    assert failure("email", guards=[guards]) == ("BadRequest", f"guards[0].{field}")


def test_guards_are_given_once() -> None:
    assert failure("email", guards=[{}, {}]) == ("BadRequest", "guards[1].identifier")
