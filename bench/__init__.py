"""The benchmarks: `make bench`.

Every figure is a ratio to a baseline of the same run, because the speed of a machine changes from one minute to the
next. Benchmarks are not tests: no figure is a failure.
"""
