"""Functions in JavaScript: V8 in worker processes of our own.

`worker` is the process, which confines itself (`headwater.transforms.functions.confinement`) before it runs anything;
`runtime.js` and `adapter` are the code around a function, `frames` is the protocol between the worker and `sandbox`,
which is the server's side. The worker imports no other part of this project.
"""
