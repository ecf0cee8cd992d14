"""Functions in Python: pydantic-monty, an interpreter of a subset of Python that runs in worker processes of its own."""
