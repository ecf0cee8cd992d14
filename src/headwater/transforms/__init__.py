"""How records become other records: mappings, which are expressions, and functions, which are people's own code.

`mapping` is pure and runs here; `functions` runs in worker processes. Neither reads anything but the records that it is
given.
"""
