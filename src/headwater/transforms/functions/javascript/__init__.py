"""Functions in JavaScript: V8 in worker processes of our own.

`worker` is the process, `confinement` and `seccomp` what it gives up before it runs anything, `runtime.js` and
`adapter` the code around a function, `frames` the words between the worker and `sandbox`, the supervisor's side. The
worker imports nothing of the house but its neighbours.
"""
