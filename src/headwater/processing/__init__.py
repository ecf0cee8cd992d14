"""The engine. Today: the consumer that carries events from the log into the warehouse."""

from headwater.processing.stream import CONSUMER, StreamConsumer

__all__ = ["CONSUMER", "StreamConsumer"]
