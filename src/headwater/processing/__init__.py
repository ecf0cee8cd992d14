"""Processes the events of the log: decode, de-duplicate, evaluate pipelines, store."""

from headwater.processing.handler import CONSUMER, make_consumer

__all__ = ["CONSUMER", "make_consumer"]
