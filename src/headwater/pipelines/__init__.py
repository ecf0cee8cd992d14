"""The engine. Today: the consumer that carries events from the log into the warehouse."""

from headwater.pipelines.stream import StreamConsumer

__all__ = ["StreamConsumer"]
