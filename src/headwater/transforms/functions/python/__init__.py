"""Functions in Python: pydantic-monty, an interpreter of a part of Python, in worker processes of its own."""
