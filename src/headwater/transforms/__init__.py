"""Transformations of records into other records: mappings, which are expressions, and functions, which are user code.

`mapping` is pure and runs in this process. `functions` runs code in worker processes. Both read only the records that
they receive.
"""
