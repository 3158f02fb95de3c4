"""The servers that the client's tests talk to, and an environment that names none."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deepfake_shield import Shield, connection
from tests.clients.house import House
from tests.clients.scripted import Answer, Scripted


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DEEPFAKE_SHIELD_URL", "DEEPFAKE_SHIELD_KEY", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "home")
    yield house
    house.close()


@pytest.fixture
def shield(house: House) -> Iterator[Shield]:
    with Shield(house.url, house.key) as shield:
        yield shield


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Scripted]]:
    """Make a scripted server. The client's own waits are short; those that a server asks for stay as they are."""
    monkeypatch.setattr(connection, "WAITS", (0.01, 0.01, 0.01))
    made: list[Scripted] = []

    def make(*answers: Answer) -> Scripted:
        made.append(Scripted(*answers))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of five images, and of what is none."""
    folder = tmp_path / "photos"
    (folder / "inner").mkdir(parents=True)
    (folder / ".trash").mkdir()
    for name, text in {
        "a.jpg": "clear a",
        "b.PNG": "fake b",
        "c.webp": "broken c",
        "inner/d.jpeg": "clear d",
        "inner/e.gif": "fake e",
        "notes.txt": "clear notes",
        ".hidden.jpg": "clear hidden",
        ".trash/f.jpg": "clear f",
    }.items():
        (folder / name).write_text(text)
    return folder
