"""The steps that a record goes through, and how a step and an event can end.

Traces, lanes, runs, metrics and the API use these words. They are stored and shown as these texts.
"""

from collections.abc import Mapping
from typing import Literal, TypeAlias

ProcessingStep = Literal["Receive", "InputValidation", "Filter", "Transformation", "OutputValidation", "Finalize"]
"""The steps of a pipeline, in their order. "Finalize" is the last: storing an event, updating an identity or sending to
a destination."""

StepOutcome = Literal["Passed", "Filtered", "Failed", "Pending"]
"""How the last step of a record ended. Pending: the record waits in the lane of its pipeline."""

StepCounts: TypeAlias = Mapping[tuple[ProcessingStep, StepOutcome], int]
"""How many records ended in each step, by its outcome."""

EventOutcome = Literal["Pending", "Processed", "NoPipeline", "Duplicate", "Rejected"]
"""What became of an event. Pending: it is durable and not yet processed. Processed: at least one pipeline took it.
NoPipeline: no enabled pipeline of its source took it, so it is not stored. Duplicate: it repeats an earlier message."""
