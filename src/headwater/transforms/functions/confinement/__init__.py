"""Confinement of the processes that run functions: JavaScript and Python use the same code.

`process` gives up the user, privileges, files and memory; `seccomp` refuses system calls; `landlock` refuses files to a
program that still has to load its libraries; `launch` is the program that confines itself and then becomes another.

These modules run in sandboxes: they import only small parts of the standard library, and each other. `launch` runs
before each session of a Python function, and `typing` alone would double its time. They never fail when the system
refuses a part; they return what is missing, because each part holds without the others. The parts are listed in
docs/decisions/0013-functions.md.
"""
