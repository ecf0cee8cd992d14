"""`headwater secrets`: the key that settings are encrypted with."""

import argparse

from headwater.catalog import Catalog
from headwater.management import secrets


async def rotate(catalog: Catalog, arguments: argparse.Namespace) -> None:
    """Encrypt everything with the present key, and say when older keys are no longer needed."""
    rotated, total = await secrets.rotate(catalog)
    print(
        f"The settings of {total} connections are encrypted with the present key, those of {rotated} since now. "
        "Older keys are no longer needed."
    )
