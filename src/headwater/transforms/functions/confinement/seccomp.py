"""A filter of system calls. Calls that reach files, the network, other processes or large parts of the kernel fail with
EPERM, for this thread and its children. Pairs of connected sockets stay allowed: event loops use them to wake up.

It is the second line of defence: functions cannot make system calls at all, so the filter matters only to code that
escaped from the interpreter. It lists the denied calls, because V8 and the C library may use any of the others.
"""

import ctypes
import os
import struct
import sys

_PR_SET_SECCOMP = 22
_MODE_FILTER = 2
_ALLOW = 0x7FFF0000
_KILL = 0x80000000
_ERRNO = 0x00050000
_EPERM = 1
_ENOSYS = 38
_CLONE_THREAD = 0x00010000

# Classic BPF, as described in the kernel's documentation of seccomp.
_LOAD = 0x20
_JUMP_EQUAL = 0x15
_JUMP_AT_LEAST = 0x35
_JUMP_BITS = 0x45
"""Jumps if any of these bits is set."""
_RETURN = 0x06
_AT_NUMBER, _AT_ARCHITECTURE, _AT_FIRST_ARGUMENT, _AT_THIRD_ARGUMENT = 0, 4, 16, 32

_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435
_X32 = 0x40000000
"""The first number of the second interface of x86-64, whose calls the list does not contain."""

_OPENAT = {"x86_64": 257, "aarch64": 56}
_EXECVEAT = {"x86_64": 322, "aarch64": 281}
_TO_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | 0o20000000
"""Flags of openat; the last one is the bit of O_TMPFILE that is not O_DIRECTORY."""

# Numbers of <asm/unistd_64.h> and <asm-generic/unistd.h>.
_REFUSED = {
    "x86_64": (
        2, 21, 57, 58, 59, 62, 76, 80, 81, 82, 83, 84, 85, 86, 87, 88, 90, 92, 101, 133, 155, 161, 165, 166, 169, 175,
        # open access fork vfork execve kill truncate chdir fchdir rename mkdir rmdir creat link unlink symlink chmod
        # chown ptrace mknod pivot_root chroot mount umount2 reboot init_module
        41, 42, 43, 46, 49, 50, 200, 234, 246, 248, 249, 250, 257, 258, 259, 263, 264, 265, 266, 272, 288, 298, 303,
        # socket connect accept sendmsg bind listen tkill tgkill kexec_load add_key request_key keyctl openat
        # mkdirat mknodat unlinkat renameat linkat symlinkat unshare accept4 perf_event_open name_to_handle_at
        304, 307, 308, 310, 311, 313, 316, 319, 321, 322, 323, 424, 425, 426, 427, 428, 429, 430, 431, 432, 434, 437,
        # open_by_handle_at sendmmsg setns process_vm_readv process_vm_writev finit_module renameat2 memfd_create bpf
        # execveat userfaultfd pidfd_send_signal io_uring_* open_tree move_mount fs* pidfd_open openat2
        438, 442,  # pidfd_getfd mount_setattr
    ),
    "aarch64": (
        33, 34, 35, 36, 37, 38, 39, 40, 41, 45, 48, 49, 50, 51, 53, 54, 56, 97, 104, 105, 106, 117, 129, 130, 131, 142,
        # mknodat mkdirat unlinkat symlinkat linkat renameat umount2 mount pivot_root truncate faccessat chdir fchdir
        # chroot fchmodat fchownat openat unshare kexec_load init_module … ptrace kill tkill tgkill reboot
        198, 200, 201, 202, 203, 211, 217, 218, 219, 221, 241, 242, 264, 265, 268, 269, 270, 271, 273, 276, 279,
        # socket bind listen accept connect sendmsg add_key request_key keyctl execve perf_event_open accept4
        # name_to_handle_at open_by_handle_at setns sendmmsg process_vm_readv/writev finit_module renameat2 memfd_create
        280, 281, 282, 424, 425, 426, 427, 428, 429, 430, 431, 432, 434, 437, 438, 442,
        # bpf execveat userfaultfd, and as above
    ),
}  # fmt: skip


def refuse(*, executes: bool = False) -> bool:
    """Install the filter. Return whether it is in force. It is not on other systems and machines, or if the kernel
    refuses it.

    With `executes`, the process can still execute a program by its descriptor, and open files to read: its libraries.
    Needs PR_SET_NO_NEW_PRIVS, or root.
    """
    machine = os.uname().machine
    if sys.platform != "linux" or machine not in _AUDIT:
        return False
    instructions = _program(machine, executes=executes)
    buffer = ctypes.create_string_buffer(b"".join(instructions))
    program = struct.pack("HxxxxxxP", len(instructions), ctypes.addressof(buffer))
    return bool(ctypes.CDLL(None).prctl(_PR_SET_SECCOMP, _MODE_FILTER, program, 0, 0) == 0)


def _program(machine: str, *, executes: bool) -> list[bytes]:
    """Return the filter. It allows threads but no processes. `clone3`, whose flags are in memory, fails as nonexistent,
    so the C library falls back to `clone`."""
    exceptions = {_OPENAT[machine], _EXECVEAT[machine]} if executes else set()
    refused = sorted(set(_REFUSED[machine]) - exceptions)
    head = [
        _instruction(_LOAD, _AT_ARCHITECTURE),
        _instruction(_JUMP_EQUAL, _AUDIT[machine], 1, 0),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _AT_NUMBER),
        _instruction(_JUMP_AT_LEAST, _X32, 0, 1),
        _instruction(_RETURN, _ERRNO | _EPERM),
        _instruction(_JUMP_EQUAL, _CLONE3, 0, 1),
        _instruction(_RETURN, _ERRNO | _ENOSYS),
        _instruction(_JUMP_EQUAL, _CLONE[machine], 0, 4),
        _instruction(_LOAD, _AT_FIRST_ARGUMENT),
        _instruction(_JUMP_BITS, _CLONE_THREAD, 1, 0),
        _instruction(_RETURN, _ERRNO | _EPERM),
        _instruction(_RETURN, _ALLOW),
    ]
    reading = [
        _instruction(_JUMP_EQUAL, _OPENAT[machine], 0, 4),
        _instruction(_LOAD, _AT_THIRD_ARGUMENT),
        _instruction(_JUMP_BITS, _TO_WRITE, 0, 1),
        _instruction(_RETURN, _ERRNO | _EPERM),
        _instruction(_RETURN, _ALLOW),
    ]
    tests = [_instruction(_JUMP_EQUAL, number, len(refused) - index, 0) for index, number in enumerate(refused)]
    tail = [*tests, _instruction(_RETURN, _ALLOW), _instruction(_RETURN, _ERRNO | _EPERM)]
    return [*head, *(reading if executes else ()), *tail]


def _instruction(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, operand)
