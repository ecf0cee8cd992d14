"""The percentage of a run."""

import pytest

from headwater.state.runs import Run, RunProgress, RunStatus


def make_run(status: RunStatus, progress: RunProgress) -> Run:
    return Run(
        id=1,
        workspace=1,
        pipeline=1,
        connection=1,
        trigger="Request",
        is_incremental=False,
        status=status,
        progress=progress,
        created_at=0,
    )


@pytest.mark.parametrize(
    ("status", "progress", "percentage"),
    [
        ("Running", RunProgress(), None),
        ("Succeeded", RunProgress(), None),
        ("Running", RunProgress(bytes=25, total_bytes=100), 25.0),
        ("Running", RunProgress(rows=1, total_rows=4), 25.0),
        ("Running", RunProgress(total_rows=0), 100.0),
        ("Failed", RunProgress(bytes=25, total_bytes=100), 25.0),
        ("Succeeded", RunProgress(bytes=0, total_bytes=12), 100.0),  # a file with a header only
    ],
)
def test_a_run_that_has_succeeded_has_read_everything(
    status: RunStatus, progress: RunProgress, percentage: float | None
) -> None:
    assert make_run(status, progress).percentage == percentage
