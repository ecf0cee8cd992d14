"""Makes an OpenAPI 3.1 document out of the protos: what the gateway's JSON over HTTP really looks like.

`schemas` turns messages into JSON Schemas, `operations` turns calls into paths, `answers` knows which statuses a call
can have, and `rawbodies` holds by hand what the protos cannot say: the JSON inside google.api.HttpBody. `options`
reads the rules of fields and the errors of calls, `texts` the comments.
"""
