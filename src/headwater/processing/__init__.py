"""Processes the events of the log: decodes and deduplicates them, evaluates pipelines, and stores the results."""

from headwater.processing.handler import CONSUMER, make_consumer

__all__ = ["CONSUMER", "make_consumer"]
