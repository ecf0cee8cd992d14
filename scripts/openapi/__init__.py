"""Generates an OpenAPI 3.1 document from the protos: the JSON over HTTP that the gateway really serves.

`schemas` converts messages to JSON Schemas, and `operations` converts calls to paths. `answers` has the possible
statuses of calls. `rawbodies` has, written by hand, the JSON inside google.api.HttpBody. `options` reads the rules of
fields and the errors of calls, `texts` the comments.
"""
