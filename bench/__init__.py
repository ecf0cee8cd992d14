"""The benchmarks: `make bench`. Every figure is a ratio to a baseline that the same run measures, because the speed of
a machine changes from one minute to the next. Benchmarks are not tests: no figure fails a run."""
