"""The rows of the errors of runs."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec
from sqlalchemy import and_, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from headwater.state.runs.model import STEPS, RunError, RunErrorSample
from headwater.state.runs.tables import run_errors

MAX_ERRORS: Final = 1_000
"""Maximum number of different errors of a run that are kept."""
MAX_SAMPLES: Final = 5
"""Maximum number of records that are kept of each error."""
MAX_MESSAGE_CHARACTERS: Final = 500
encode_samples: Final = msgspec.json.Encoder().encode
decode_samples: Final = msgspec.json.Decoder(tuple[RunErrorSample, ...]).decode


def clean(text: str) -> str:
    """Return a text that every database stores, cut to its maximum length."""
    return text[:MAX_MESSAGE_CHARACTERS].replace("\0", "\ufffd").encode(errors="replace").decode()


async def add_errors(connection: AsyncConnection, run: int, errors: Sequence[RunError]) -> None:
    """Add errors to those of a run. The counts of those with the same step and message are added."""
    table = run_errors.c
    query = select(table.step, table.digest, table.count, table.samples).where(table.run == run)
    known = {(step, digest): (count, samples) for step, digest, count, samples in await connection.execute(query)}
    for error in errors:
        message = clean(error.message)
        step, digest = STEPS.index(error.step), _digest(message)
        samples = tuple(
            RunErrorSample(each.number, clean(each.id), clean(each.path)) for each in error.samples[:MAX_SAMPLES]
        )
        if (step, digest) in known:
            count, stored = known[step, digest]
            samples = (*decode_samples(stored), *samples)[:MAX_SAMPLES]
            values = {"count": count + error.count, "last_at": error.last_at, "samples": encode_samples(samples)}
            same = and_(table.run == run, table.step == step, table.digest == digest)
            await connection.execute(update(run_errors).where(same).values(**values))
        elif len(known) < MAX_ERRORS:
            encoded = encode_samples(samples)
            known[step, digest] = error.count, encoded
            await connection.execute(
                insert(run_errors).values(
                    run=run,
                    step=step,
                    digest=digest,
                    message=message,
                    count=error.count,
                    first_at=error.first_at,
                    last_at=error.last_at,
                    samples=encoded,
                )
            )


def _digest(message: str) -> int:
    """Return 63 bits of a digest."""
    return int.from_bytes(blake2b(message.encode(), digest_size=8).digest()) >> 1


def read_error(row: Any) -> RunError:
    """Return the error of a row."""
    return RunError(
        run=row.run,
        step=STEPS[row.step],
        message=row.message,
        count=row._mapping["count"],  # tuples have a method of this name
        first_at=row.first_at,
        last_at=row.last_at,
        samples=decode_samples(row.samples),
        digest=row.digest,
    )
