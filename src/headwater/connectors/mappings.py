"""Expressions that several connectors suggest for properties of their event types."""

from typing import Final

OS_NAME: Final = "coalesce(context.os.other, context.os.name)"
BROWSER_NAME: Final = "coalesce(context.browser.other, context.browser.name)"

_UTM: Final = {"source": "source", "medium": "medium", "campaign": "name", "term": "term", "content": "content"}
UTM: Final = "map({})".format(", ".join(f'"utm_{name}", context.campaign.{path}' for name, path in _UTM.items()))
"""The parameters of the campaign by which a user came; empty if there is none."""
