from pathlib import Path

import pytest

from training.config import load_config

FOLDER = Path(__file__).parents[2] / "training" / "configs"
CONFIGS = sorted(path for path in FOLDER.glob("*.json") if path.stem != "detector")  # which draws from no manifest


@pytest.mark.parametrize("path", CONFIGS, ids=[path.name for path in CONFIGS])
def test_a_shipped_config_is_read_and_finds_its_data_where_it_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHIELD_DATA", "/somewhere")
    config = load_config(path)
    assert config.steps > 100
    assert config.sources[0].root_path == Path("/somewhere/dfdc_faces_224.zip")
    assert all(source.real and source.fake + source.blend for source in config.sources)
