"""Describes applications: users are read from and written to them, and events are sent to some of them."""

from headwater.connectors.connector import Capabilities, Connector, OAuthSupport, Target, Terms
from headwater.connectors.contract import NO_ENGINE, ApiVersion, Engine
from headwater.connectors.settings import Settings


def application(
    code: str,
    label: str,
    category: str,
    settings: type[Settings],
    *,
    reads: bool = True,
    writes: tuple[Target, ...],
    terms: Terms | None = None,
    engine: Engine = NO_ENGINE,
    oauth: OAuthSupport | None = None,
    version: ApiVersion | None = None,
) -> Connector:
    """Describe an application. Users are read from it if `reads` is set; `writes` are the entities written to it.

    It is available if it has an `engine`.
    """
    written = " and ".join({"User": "profiles", "Event": "events"}[target] for target in writes)
    return Connector(
        code=code,
        label=label,
        type="Application",
        categories=(category,),
        source=Capabilities(targets=("User",), settings=settings, summary=f"Import users from {label}.")
        if reads
        else None,
        destination=Capabilities(
            targets=writes,
            sending_modes=("Server",) if "Event" in writes else (),
            settings=settings,
            summary=f"Send {written} to {label}.",
        ),
        available=engine != NO_ENGINE,
        terms=terms or Terms(),
        engine=engine,
        oauth=oauth,
        version=version,
    )
