"""Functions in Python: pydantic-monty, an interpreter for a subset of Python, in dedicated worker processes."""
