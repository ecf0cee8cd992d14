"""Creating and changing workspaces, connections, pipelines and keys: the rules, and nothing about the wire.

Each function takes the catalog, the workspace that the caller may act in, and a request; it raises `base.errors` and
then nothing has changed. A reference in the path that does not exist is 404, one in the body 422, and a value that can
never be valid 400.
"""
