"""The command, as a shell and a person at a terminal see it. Against the real API."""

import csv
import io
import json
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deepfake_shield.__main__ import main
from tests.clients.house import House
from tests.processes import ended

CLIENT = Path(__file__).parents[2] / "clients" / "python"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process: its exit code, stdout and stderr."""
    monkeypatch.setenv("DEEPFAKE_SHIELD_URL", house.url)
    monkeypatch.setenv("DEEPFAKE_SHIELD_KEY", house.key)

    def run(*line: object) -> tuple[int, str, str]:
        code = main([str(word) for word in line])
        return code, *capsys.readouterr()

    return run


def command(house: House, *line: object) -> tuple[list[str], dict[str, str]]:
    """The command as a process: its command line and environment."""
    found = {"DEEPFAKE_SHIELD_URL": house.url, "DEEPFAKE_SHIELD_KEY": house.key, "PYTHONPATH": str(CLIENT)}
    return [sys.executable, "-m", "deepfake_shield", *map(str, line)], {**os.environ, **found}


def test_scan_prints_a_table_and_tells_progress_apart(house: House, run: Run, photos: Path) -> None:
    with house.worker():
        code, out, err = run("scan", photos)
    head, *rows, empty, summary = out.splitlines()
    assert code == 0
    assert head.split() == ["file", "verdict", "score", "faces", "reasons"]
    assert [row.split()[:2] for row in rows] == [
        [f"{photos}/a.jpg", "clear"],
        [f"{photos}/b.PNG", "fake"],
        [f"{photos}/c.webp", "failed"],
        [f"{photos}/inner/d.jpeg", "clear"],
        [f"{photos}/inner/e.gif", "fake"],
    ]
    assert rows[1].split()[2:] == ["0.900", "1", "because"]
    assert rows[2].endswith("not_an_image: the first bytes are those of no image format")
    assert (empty, summary) == ("", "5 images: 2 fake, 2 clear, 1 failed")
    assert "5 images accepted" in err
    assert "scan 100%: 5 of 5  2 fake  1 failed" in err
    assert "\x1b" not in out + err


def test_jsonl_is_what_the_api_returned(house: House, run: Run, photos: Path) -> None:
    with house.worker():
        code, out, _ = run("scan", photos, "--format", "jsonl")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [line["verdict"] for line in lines] == ["clear", "fake", None, "clear", "fake"]
    assert lines[1]["faces"][0]["box"] == {"left": 1.0, "top": 2.0, "width": 30.0, "height": 40.0}
    assert lines[2]["error"]["code"] == "not_an_image"


def test_csv_has_a_row_for_each_result(house: House, run: Run, photos: Path) -> None:
    with house.worker():
        _, out, _ = run("scan", photos, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["verdict"] for row in rows] == ["clear", "fake", "", "clear", "fake"]
    assert (rows[1]["score"], rows[1]["faces"], rows[1]["reasons"]) == ("0.9", "1", "because")
    assert rows[2]["error_code"] == "not_an_image"


@pytest.mark.parametrize(
    ("names", "code"), [([], 0), (["suspect"], 0), (["fake"], 3), (["failed"], 3), (["suspect", "fake"], 3)]
)
def test_fail_on_says_by_the_exit_code_what_was_found(
    house: House, run: Run, photos: Path, names: list[str], code: int
) -> None:
    flags = [word for name in names for word in ("--fail-on", name)]
    with house.worker():
        assert run("scan", photos, *flags)[0] == code


def test_a_job_is_followed_by_its_id(house: House, run: Run, photos: Path) -> None:
    code, out, _ = run("scan", photos, "--no-wait", "--name", "holiday")
    job = out.strip()
    assert code == 0
    assert run("job", job)[1] == f"{job}  queued  0 of 5 images: 5 pending\n"
    assert run("results", job)[1].endswith("0 images: no result yet\n")
    house.scan_one_chunk()
    assert run("cancel", job)[1] == f"{job}  ended  5 of 5 images: 1 fake, 2 clear, 1 failed, 1 canceled\n"
    assert run("job", job, "--wait")[1].startswith(f"{job}  ended")
    assert run("results", job, "--fail-on", "fake")[0] == 3


def test_what_failed_is_retried_and_a_job_is_deleted(house: House, run: Run, photos: Path) -> None:
    job = run("scan", photos, "--no-wait")[1].strip()
    house.scan_all()
    code, out, err = run("retry", job)
    again = out.split()[0]
    assert (code, out) == (0, f"{again}  queued  0 of 1 images: 1 pending\n")
    assert err == f"{again}: 1 image accepted\n"
    with house.worker():
        code, out, _ = run("retry", job, "--wait")
    assert (code, out.split(maxsplit=1)[1]) == (0, "ended  1 of 1 images: 1 failed\n")
    assert run("delete", job) == (0, "", f"{job} is deleted\n")
    code, _, err = run("job", job)
    assert (code, err.endswith("(not_found)\n")) == (1, True)


def test_jobs_lists_the_newest_first(run: Run, photos: Path) -> None:
    for name in ("one", "two", "three"):
        run("scan", photos / "a.jpg", "--no-wait", "--name", name)
    code, out, _ = run("jobs", "--limit", 2)
    assert code == 0
    assert [line.split()[-1] for line in out.splitlines()] == ["name", "three", "two"]


def test_a_wrong_key_is_an_error_in_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPFAKE_SHIELD_KEY", "dfs_live_wrong")
    code, out, err = run("jobs")
    assert (code, out) == (1, "")
    assert err.startswith("deepfake-shield: ")
    assert err.endswith("(unauthorised)\n")
    assert err.count("\n") == 1


def test_no_server_is_an_error_that_says_where(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepfake_shield.connection.WAITS", (0.01,))
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    code, _, err = run("--url", url, "--key", "k", "jobs")
    assert code == 1
    assert "trying again" in err
    assert f"deepfake-shield: no server answers at {url}" in err


def test_no_key_is_an_error_that_says_how(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEEPFAKE_SHIELD_KEY")
    code, _, err = run("jobs")
    assert code == 1
    assert "DEEPFAKE_SHIELD_KEY" in err


@pytest.mark.parametrize("line", [[], ["scan"], ["scan", "x", "--format", "xml"], ["jobs", "--limit", "0"], ["fly"]])
def test_wrong_usage_exits_with_2(run: Run, line: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(*line)
    assert caught.value.code == 2


def test_a_reader_that_has_seen_enough_is_no_error(house: House, run: Run, photos: Path) -> None:
    for number in range(400):
        (photos / f"{number:04}.jpg").write_text("clear")
    _, job, _ = run("scan", photos, "--no-wait")
    house.scan_all()
    line, env = command(house, "results", job.strip(), "--format", "jsonl")
    with ended(subprocess.Popen(line, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"{")
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_an_interrupt_says_how_to_go_on(house: House, photos: Path) -> None:
    line, env = command(house, "scan", photos)
    with ended(subprocess.Popen(line, env=env, stderr=subprocess.PIPE, text=True)) as process:
        assert process.stderr is not None
        while "scan 0%" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "goes on; read it with: deepfake-shield results job_" in rest
    assert "Traceback" not in rest


def test_a_terminal_gets_a_bar_and_no_file_name_can_command_it(house: House, tmp_path: Path) -> None:
    (tmp_path / "a\x1b[2Jb.jpg").write_text("fake")
    line, env = command(house, "scan", tmp_path)
    ours, theirs = pty.openpty()
    with house.worker(), subprocess.Popen(line, env=env | {"COLUMNS": "60"}, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        screen = read_all(ours)
    assert process.returncode == 0
    assert "scan   ████████████████████████████ 100%  1 of 1  1 fake" in screen
    assert "\x1b[31mfake   \x1b[0m" in screen
    assert "\x1b[2J" not in screen
    table = screen[screen.index("\x1b[1mfile") :].replace("\x1b[1m", "").replace("\x1b[31m", "").replace("\x1b[0m", "")
    assert all(len(row) <= 60 for row in table.splitlines())
    assert "a�[2Jb.jpg" in table


def read_all(terminal: int) -> str:
    """Everything that is written to a terminal until its other side is closed."""
    parts: list[bytes] = []
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # Linux says so at the end
            part = b""
        if not part:
            os.close(terminal)
            return b"".join(parts).decode()
        parts.append(part)
