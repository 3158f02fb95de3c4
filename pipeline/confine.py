"""What a decoding child may still do, once it has its modules in memory: compute, and talk over the line that it has.

Each measure stands alone, so that an attacker who takes the child over through a decoder's fault has to pass them all:

    limits        memory, open files; no core dumps, no file written, no further process
    identity      where it was root it is nobody; no set-user-id program gives anything back
    privacy       no other process of the same user may read its memory
    network       a network of its own without an interface, where the kernel lets it have one
    system calls  a list of nineteen: none opens a file or a socket, starts or signals a process, or maps code

The last is Linux on x86-64 and ARM64; on others, and on macOS, the limits are what there is (docs/decoding.md).
"""

import contextlib
import ctypes
import errno
import os
import platform
import resource
import signal
import struct
import sys
from typing import Final, NamedTuple

NOBODY: Final = 65534
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
OOM_FIRST: Final = b"1000"  # where the kernel runs out of memory it ends this process before the worker

# Of the BPF machine that judges system calls: an instruction is code, jump if true, jump if false, operand.
LOAD, EQUAL, ANY_BIT, ANSWER = 0x20, 0x15, 0x45, 0x06
NUMBER_AT, MACHINE_AT, ARGUMENTS_AT = 0, 4, 16  # bytes into struct seccomp_data; an argument takes 8
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000
MODE_FILTER: Final = 2
PROT_EXEC: Final = 4


class Call(NamedTuple):
    """A system call's numbers, by processor."""

    x86_64: int
    aarch64: int


MACHINES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # as the kernel's audit interface numbers them
# What malloc, locks, clocks, the end of a process, and a socket that is already open need.
ALLOWED: Final = {
    "sendto": Call(44, 206),
    "recvfrom": Call(45, 207),
    "brk": Call(12, 214),
    "munmap": Call(11, 215),
    "mremap": Call(25, 216),
    "madvise": Call(28, 233),
    "futex": Call(202, 98),
    "getrandom": Call(318, 278),
    "rt_sigaction": Call(13, 134),
    "rt_sigprocmask": Call(14, 135),
    "rt_sigreturn": Call(15, 139),
    "restart_syscall": Call(219, 128),
    "getrusage": Call(98, 165),
    "clock_gettime": Call(228, 113),
    "exit": Call(60, 93),
    "exit_group": Call(231, 94),
}
# Allowed where the third argument is without PROT_EXEC: no code comes to what is there.
DATA_ONLY: Final = {"mmap": Call(9, 222), "mprotect": Call(10, 226)}
# Allowed where the first argument is 0: the limits of this process alone.
ITSELF_ONLY: Final = {"prlimit64": Call(302, 261)}


def confine(parent: int, memory_bytes: int) -> bool:
    """Give up, for the rest of this process's life, what decoding does not need; whether system calls are filtered.

    `parent` is the process that this one must not outlive.
    """
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)  # sent to a whole group; the worker still wants the batch that it has
    _limit(memory_bytes)
    if sys.platform != "linux":
        return False
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "wb", buffering=0) as file:  # noqa: PTH123
        file.write(OOM_FIRST)
    kernel = ctypes.CDLL(None)
    kernel.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
    if os.geteuid() == 0:
        kernel.unshare(CLONE_NEWNET)
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    else:
        kernel.unshare(CLONE_NEWUSER | CLONE_NEWNET)  # many a container forbids it
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    kernel.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    kernel.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(0)  # it died before it could be watched
    kernel.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return _filter_system_calls(kernel)


def grant_processor_time(seconds: int) -> None:
    """Let this process use `seconds` more of CPU time; beyond that the kernel ends it with SIGXCPU."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(usage.ru_utime + usage.ru_stime) + seconds + 1, hard))


def _limit(memory_bytes: int) -> None:
    bounds = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 32,
        resource.RLIMIT_AS: memory_bytes,
    }
    for kind, wanted in bounds.items():
        _, hard = resource.getrlimit(kind)
        bound = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        try:
            resource.setrlimit(kind, (bound, bound))
        except (ValueError, OSError):
            # macOS refuses RLIMIT_AS; there the pixel cap alone bounds memory.
            if sys.platform != "darwin" or kind != resource.RLIMIT_AS:
                raise


def _filter_system_calls(kernel: ctypes.CDLL) -> bool:
    machine = platform.machine()
    if machine not in MACHINES:
        return False
    program = filter_program(machine)
    code = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))  # sock_fprog
    return not kernel.prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.addressof(header), 0, 0)


def filter_program(machine: str) -> bytes:
    """The filter for one of MACHINES as struct sock_filter[]: what is not allowed fails with EPERM."""

    def step(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
        return struct.pack("@HBBI", code, if_true, if_false, operand)  # jumps are counted from the next step

    def number(call: Call) -> int:
        return int(getattr(call, machine))

    steps = [step(LOAD, MACHINE_AT), step(EQUAL, MACHINES[machine], 1, 0), step(ANSWER, KILL), step(LOAD, NUMBER_AT)]
    for call in ALLOWED.values():
        steps += [step(EQUAL, number(call), 0, 1), step(ANSWER, ALLOW)]
    for call in DATA_ONLY.values():
        steps += [step(EQUAL, number(call), 0, 4), step(LOAD, ARGUMENTS_AT + 8 * 2)]
        steps += [step(ANY_BIT, PROT_EXEC, 1, 0), step(ANSWER, ALLOW), step(ANSWER, REFUSE)]
    for call in ITSELF_ONLY.values():
        steps += [step(EQUAL, number(call), 0, 4), step(LOAD, ARGUMENTS_AT)]
        steps += [step(EQUAL, 0, 0, 1), step(ANSWER, ALLOW), step(ANSWER, REFUSE)]
    return b"".join([*steps, step(ANSWER, REFUSE)])
