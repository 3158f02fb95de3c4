"""What a decoding child can still do: nothing but decode, and not for longer than the worker lives."""

import json
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import confine
from pipeline.images import DecodeLimits, Decoder
from tests.pipeline.photos import PROJECT, encoded, little_photo
from tests.processes import ended

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="macOS has limits alone")
filter_only = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in confine.MACHINES, reason="no filter for this processor"
)
PHOTO = encoded(little_photo(), "PNG")

# What an attacker would try from inside. Each is a line of Python, and ends in PermissionError.
ATTEMPTS = {
    "read a file": "open('/etc/hostname')",
    "write a file": "open('/tmp/planted', 'w')",
    "look for secrets": "os.listdir('/proc/self')",
    "reach the network": "socket.socket(socket.AF_INET)",
    "reach a neighbour": "socket.socket(socket.AF_UNIX)",
    "fork": "os.fork()",
    "start a program": "os.execv('/bin/true', ['true'])",
    "signal the worker": "os.kill(parent, 0)",
    "limit the worker": "resource.prlimit(parent, resource.RLIMIT_NOFILE, (0, 0))",
    "bring code along": "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)",
    "become root": "os.setuid(0)",
}
ATTACKER = """
    import json, mmap, os, resource, socket, sys
    from pipeline.confine import confine
    line = socket.socket(fileno=0)
    parent = os.getppid()
    assert confine(parent, 2**30)
    ended = {}
    for name, attempt in json.loads(sys.argv[1]).items():
        try:
            exec(attempt)
            ended[name] = "done"
        except Exception as error:
            ended[name] = type(error).__name__
    line.sendall(json.dumps(ended).encode())
"""


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    with Decoder(DecodeLimits(memory_bytes=2**30)) as decoder:
        decoder.start()
        yield decoder


def facts(decoder: Decoder, file: str) -> dict[str, str]:
    """A file of the child's in /proc, by the words that its lines begin with."""
    text = Path(f"/proc/{decoder.pid}/{file}").read_text()
    if file == "limits":
        return {line[:25].strip(): line[25:].split()[0] for line in text.splitlines()}
    return {name: rest.strip() for name, _, rest in (line.partition(":") for line in text.splitlines())}


@filter_only
def test_whoever_takes_the_child_over_can_do_nothing_with_it() -> None:
    ours, theirs = socket.socketpair()
    line = [sys.executable, "-c", textwrap.dedent(ATTACKER), json.dumps(ATTEMPTS)]
    with ours, theirs, subprocess.Popen(line, stdin=theirs.fileno(), cwd=PROJECT) as child:
        theirs.close()
        ended = json.loads(ours.recv(4096))
        assert child.wait(10) == 0
    assert ended == dict.fromkeys(ATTEMPTS, "PermissionError")


@linux_only
def test_the_child_lives_within_limits(decoder: Decoder) -> None:
    decoder.decode(PHOTO)
    limits = facts(decoder, "limits")
    assert limits["Max address space"] == str(2**30)
    assert limits["Max core file size"] == limits["Max file size"] == limits["Max processes"] == "0"
    assert limits["Max open files"] == "32"
    assert 0 < int(limits["Max cpu time"]) <= 10


@linux_only
def test_the_child_is_nobody_and_nobody_s_business(decoder: Decoder) -> None:
    status = facts(decoder, "status")
    assert status["NoNewPrivs"] == "1"
    assert set(status["Uid"].split()) == {str(confine.NOBODY if os.getuid() == 0 else os.getuid())}
    assert Path(f"/proc/{decoder.pid}/environ").stat().st_uid == 0  # root's, where no equal may read its memory
    assert Path(f"/proc/{decoder.pid}/oom_score_adj").read_text().strip() == "1000"


@linux_only
def test_the_child_knows_no_secret_and_holds_no_other_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHIELD_SECRET_KEY", "for no eyes but ours")
    with (PROJECT / "README.md").open(), Decoder() as decoder:
        decoder.start()
        if os.getuid() != 0:
            pytest.skip("only root may look at what a child that hides its memory holds")
        folder = Path(f"/proc/{decoder.pid}")
        assert b"SHIELD_SECRET_KEY" not in (folder / "environ").read_bytes()
        held = sorted(str(path.readlink()).split(":")[0] for path in (folder / "fd").iterdir())
        assert held == ["/dev/null", "/dev/null", "/memfd", "socket"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_worker_s_whole_group_leaves_the_batch_its_decoder(
    decoder: Decoder, number: signal.Signals
) -> None:
    child = decoder.pid
    assert child is not None
    os.kill(child, number)
    assert decoder.decode(PHOTO).pixels.shape == (32, 48, 3)
    assert decoder.pid == child
    assert os.getpgid(child) != os.getpgid(0)


@linux_only
def test_a_child_ends_with_the_worker_even_while_it_hangs() -> None:
    worker = (
        "import os, signal, time; from pipeline.images import Decoder; d = Decoder(); d.start();"
        " os.kill(d.pid, signal.SIGSTOP); print(d.pid, flush=True); time.sleep(60)"
    )
    with ended(subprocess.Popen([sys.executable, "-c", worker], stdout=subprocess.PIPE, cwd=PROJECT)) as process:
        assert process.stdout is not None
        child = Path(f"/proc/{int(process.stdout.readline())}")
        assert child.exists()
        process.kill()
    deadline = time.monotonic() + 10
    while child.exists() and "zombie" not in (child / "status").read_text():
        assert time.monotonic() < deadline, "the child outlived the worker"
        time.sleep(0.02)


def judge(program: bytes, machine: int, number: int, *arguments: int) -> int:
    """What a filter answers to a system call: the few instructions of BPF that it is made of, carried out."""
    call = struct.pack("<iIQ6Q", number, machine, 0, *(*arguments, *[0] * (6 - len(arguments))))
    steps = list(struct.iter_unpack("@HBBI", program))
    at = held = 0
    while True:
        code, if_true, if_false, operand = steps[at]
        at += 1
        match code:
            case confine.LOAD:
                (held,) = struct.unpack_from("<I", call, operand)
            case confine.EQUAL:
                at += if_true if held == operand else if_false
            case confine.ANY_BIT:
                at += if_true if held & operand else if_false
            case _:
                return int(operand)


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("x86_64", {"open": 2, "socket": 41, "clone": 56, "execve": 59, "kill": 62, "ptrace": 101, "openat": 257}),
        ("aarch64", {"openat": 56, "ptrace": 117, "kill": 129, "socket": 198, "clone": 220, "execve": 221}),
    ],
)
def test_the_filter_of_each_processor_allows_what_is_listed_and_no_more(name: str, refused: dict[str, int]) -> None:
    program, machine = confine.filter_program(name), confine.MACHINES[name]

    def answer(number: int, *arguments: int) -> int:
        return judge(program, machine, number, *arguments)

    listed = {call: getattr(numbers, name) for call, numbers in confine.ALLOWED.items()}
    assert {call: answer(number) for call, number in listed.items()} == dict.fromkeys(listed, confine.ALLOW)
    assert {call: answer(number) for call, number in refused.items()} == dict.fromkeys(refused, confine.REFUSE)
    for numbers in confine.DATA_ONLY.values():
        number = getattr(numbers, name)
        assert [answer(number, 0, 0, prot) for prot in (3, 4, 7)] == [confine.ALLOW, confine.REFUSE, confine.REFUSE]
    limit = getattr(confine.ITSELF_ONLY["prlimit64"], name)
    assert [answer(limit, pid) for pid in (0, 1)] == [confine.ALLOW, confine.REFUSE]
    total = sum(answer(number) == confine.ALLOW for number in range(1000))
    assert total == len(confine.ALLOWED) + len(confine.DATA_ONLY) + len(confine.ITSELF_ONLY)
    assert judge(program, machine + 1, listed["exit"]) == confine.KILL
