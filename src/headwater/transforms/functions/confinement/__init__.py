"""Confinement of the processes that run functions. JavaScript and Python share this code.

`process` gives up the user, privileges, files and memory. `seccomp` restricts system calls. `landlock` restricts files
for a program that still has to load its libraries. `launch` is the program that confines itself and then executes
another.

These modules run in sandboxes: they import only small parts of the standard library, and each other. `launch` runs
before each session of a Python function, and `typing` alone would double its time. If the system refuses a part, they
return its name instead of failing, because each part works without the others. The parts are listed in
docs/decisions/0013-functions.md.
"""
