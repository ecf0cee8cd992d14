"""Checks that functions can run fully confined: `python -m headwater.server.sandboxes`.

It is a separate process, because the supervisor loads none of the libraries that this needs. The exit status is 0, or 1
with the reason on standard error.
"""

import asyncio
import sys

from headwater.base.errors import HeadwaterError
from headwater.schemas import ObjectType, Property, StringType
from headwater.transforms.functions import Function, Language, Runner

_SOURCES: dict[Language, str] = {
    "JavaScript": "const transform = (user) => user",
    "Python": "def transform(user):\n    return user",
}


async def check() -> list[str]:
    """Load one function of each language. Return the reason for each language that fails."""
    schema = ObjectType((Property("name", StringType()),))
    failures = []
    async with Runner(javascript=1, python=1, require_confinement=True) as runner:
        for language, source in _SOURCES.items():
            function = Function("check", language, source, in_paths=("name",), out_paths=("name",))
            try:
                await runner.check(function, schema, schema)
            except HeadwaterError as error:
                failures.append(error.message)
    return failures


if __name__ == "__main__":
    sys.exit("; ".join(asyncio.run(check())) or None)
