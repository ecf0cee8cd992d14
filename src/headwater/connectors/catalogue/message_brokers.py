"""Message brokers. They are listed as announced: connections to them cannot be created in either role."""

from typing import Final

from headwater.connectors.connector import Connector

CONNECTORS: Final = tuple(
    Connector(code=code, label=label, type="MessageBroker", categories=("Message broker",))
    for code, label in (("kafka", "Kafka"), ("rabbitmq", "RabbitMQ"))
)
