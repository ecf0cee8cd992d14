"""Reports what became of deliveries: metrics, counts and errors of pipelines, and outcomes for those who watch."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from headwater.base.clock import Clock, microseconds
from headwater.base.metrics import DeliveryEnd, Metrics, ResponseClass
from headwater.base.outcomes import DeliveryOutcome, Outcomes
from headwater.connectors.contract import FailureScope, SendResult
from headwater.delivery.items import EXPIRED
from headwater.delivery.progress import GivenUp
from headwater.delivery.session import SentBatch
from headwater.state import PipelineCounts


class Reporter:
    """Reports the deliveries of all destinations. Calls are cheap and raise nothing."""

    def __init__(self, metrics: Metrics, outcomes: Outcomes, clock: Clock) -> None:
        self._metrics = metrics
        self._outcomes = outcomes
        self._clock = clock
        self._counts = PipelineCounts()

    def take_counts(self) -> PipelineCounts:
        """Return the counts since the last call. The caller records them."""
        counts, self._counts = self._counts, PipelineCounts()
        return counts

    def sent(self, destination: int, workspace: int, sent: SentBatch) -> None:
        """Report the result of a request."""
        self._metrics.delivery_requested(destination, classify(sent.result), sent.seconds, len(sent.batch.items))
        failure = sent.result.failure
        if failure is not None and failure.scope is FailureScope.BATCH and len(sent.batch.items) > 1:
            self._metrics.delivery_halved(destination)
        if sent.delivered:
            now = self._clock.now().timestamp()
            self._metrics.delivered_after(destination, [now - item.enqueued_at for item in sent.delivered])
            for pipeline, events in Counter(item.pipeline for item in sent.delivered).items():
                self._metrics.deliveries_ended(destination, pipeline, "Delivered", events)
                self._counts.add(pipeline, "Finalize", "Passed", events, has_waited=True)
        if self._outcomes.is_watched(workspace):
            self._outcomes.publish(self._attempts(destination, workspace, sent))

    def given_up(self, given_up: GivenUp) -> None:
        """Report a delivery that became a dead letter."""
        letter = given_up.letter
        end: DeliveryEnd = "Failed" if letter.attempts else "Rejected"
        if letter.reason == EXPIRED:
            end = "Expired"
        self._metrics.deliveries_ended(letter.destination, letter.pipeline, end, 1)
        message = f"{letter.reason}: {letter.message}" if letter.message else letter.reason
        self._counts.add(letter.pipeline, given_up.step, "Failed", message=message, has_waited=True)
        if self._outcomes.is_watched(letter.workspace):
            event = letter.event
            outcome = DeliveryOutcome(
                letter.workspace,
                letter.destination,
                letter.pipeline,
                event.source,
                event.message_id,
                "Failed",
                letter.died_at,
                given_up.step,
                message,
                letter.status or None,
                letter.attempts,
            )
            self._outcomes.publish((outcome,))

    def expired(self, items: Mapping[tuple[int, int], int], reason: str) -> None:
        """Report deliveries that were given up without an attempt: their number by destination and pipeline."""
        for (destination, pipeline), events in items.items():
            self._metrics.deliveries_ended(destination, pipeline, "Expired", events)
            self._counts.add(pipeline, "Finalize", "Failed", events, message=reason, has_waited=True)

    def _attempts(self, destination: int, workspace: int, sent: SentBatch) -> list[DeliveryOutcome]:
        """Return the outcomes of the items that were delivered, or are tried again."""
        at = microseconds(self._clock.now())
        delivered = {item.number for item in sent.delivered}
        dead = {item.number for item in sent.dead}
        failure = sent.result.failure
        outcomes = []
        for item, result in zip(sent.batch.items, sent.result.items, strict=True):
            event = sent.event(item.number)
            if event is None or item.number in dead:
                continue
            message = result.message or result.reason
            if failure is not None:
                message = f"{failure.reason}: {failure.message}" if failure.message else failure.reason
            outcomes.append(
                DeliveryOutcome(
                    workspace,
                    destination,
                    item.pipeline,
                    event.source,
                    event.message_id,
                    "Passed" if item.number in delivered else "Retrying",
                    at,
                    "Finalize",
                    message,
                    sent.result.status,
                    sent.batch.attempt,
                )
            )
        return outcomes


def classify(result: SendResult) -> ResponseClass:
    """Return the kind of a destination's response."""
    status = result.status
    if status is None:
        return "Timeout" if result.failure is not None and result.failure.reason == "TimedOut" else "Error"
    if status == _TOO_MANY_REQUESTS:
        return "429"
    return _CLASSES.get(status // 100, "Error")


_TOO_MANY_REQUESTS: Final = 429
_CLASSES: Final[dict[int, ResponseClass]] = {2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx"}
