"""Functions in JavaScript: V8 in dedicated worker processes.

`worker` is the process, which confines itself (`headwater.transforms.functions.confinement`) before it runs user code.
`runtime.js` and `adapter` are the code around a function. `frames` is the protocol between the worker and `sandbox`,
its client in the server. The worker imports no other part of this project.
"""
