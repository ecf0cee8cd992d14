"""Landlock: denies this process all files except a list. Needs Linux 5.13 or newer, and no root.

An executed program has to load its libraries, so `seccomp` cannot deny opening files. Landlock can: it denies all files
except the program and the system's libraries.
"""

import ctypes
import os
import struct
import sys

_CREATE_RULESET = 444
_ADD_RULE = 445
_RESTRICT_SELF = 446
_GET_VERSION = 1
_RULE_PATH_BENEATH = 1

_EXECUTE = 1 << 0
_READ_FILE = 1 << 2
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
"""Number of rights, the lowest bits, by version of the interface."""
_MAX_RIGHTS = 16

LIBRARIES = ("/etc/ld.so.cache", "/lib", "/lib64", "/usr/lib", "/usr/lib64")
"""The files and folders that a dynamic linker reads."""


def open_allowed(program: int) -> list[int]:
    """Return descriptors of what a program needs: its own file and the system's libraries. The caller closes them."""
    found = [os.dup(program)]
    for path in LIBRARIES:
        try:
            found.append(os.open(path, getattr(os, "O_PATH", os.O_RDONLY) | os.O_CLOEXEC))
        except OSError:  # this system does not have it
            continue
    return found


def restrict(allowed: list[int]) -> bool:
    """Deny this process all files except these descriptors and the contents of folders among them, which it can read
    and execute. Return whether the restriction is in force. Needs PR_SET_NO_NEW_PRIVS, or root."""
    if sys.platform != "linux":
        return False
    call = ctypes.CDLL(None).syscall
    version = call(_CREATE_RULESET, None, ctypes.c_size_t(0), _GET_VERSION)
    if version < 1:
        return False
    handled = struct.pack("Q", (1 << _RIGHTS.get(version, _MAX_RIGHTS)) - 1)
    ruleset = call(_CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), 0)
    if ruleset < 0:
        return False
    try:
        for descriptor in allowed:
            attributes = struct.pack("=Qi", _EXECUTE | _READ_FILE, descriptor)
            if call(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, attributes, 0) != 0:
                return False
        return bool(call(_RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)
