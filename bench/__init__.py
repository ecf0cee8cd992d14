"""The benchmarks: `make bench`. Every figure is a ratio to a floor that is measured in the same run, because the speed
of a machine changes from one minute to the next. Nothing here is a test, and nothing fails."""
