"""The rules for workspaces, connections, pipelines and keys. Independent of any API.

Each function takes the catalog, the workspace of the caller, and a request. It raises errors of `base.errors`; then
nothing has changed. A reference in the path that does not exist is 404, one in the body 422, and a value that can never
be valid 400.
"""
