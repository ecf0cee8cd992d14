"""Read-side views of the work in progress: message traces, outcomes of calls, lane status."""
