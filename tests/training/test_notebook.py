"""The notebook in a kernel of this environment, with everything that it makes in a temporary folder."""

import json
import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "training" / "notebooks" / "shield-training.ipynb"


@pytest.fixture
def notebook() -> NotebookNode:
    read: NotebookNode = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    return read


def execute(notebook: NotebookNode, folder: Path, data: Path) -> dict[str, str]:
    """Run every cell; the text that each gave, by the cell's id."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MLRUN")}
    env |= {"PYTHONPATH": str(ROOT), "SHIELD_DATA": str(data), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    NotebookClient(notebook, resources={"metadata": {"path": str(folder)}}).execute(env=env)
    return {cell["id"]: "".join(map(text_of, cell.get("outputs", []))) for cell in notebook.cells}


def text_of(output: NotebookNode) -> str:
    return str(output.get("text") or output["data"]["text/plain"])


@pytest.mark.slow
def test_it_searches_trains_and_evaluates_and_lists_what_was_tracked(
    notebook: NotebookNode, data_folder: Path, tmp_path: Path
) -> None:
    said = execute(notebook, tmp_path, data_folder.resolve())
    assert said["table"].count("completed") == 4
    assert "'real': 60, 'fake': 60" in said["evaluate"].replace("\n", "")
    for run in (
        "notebook-evaluate', 'completed', ['roc']",
        "notebook-train', 'completed'",
        "notebook-search', 'completed'",
    ):
        assert run in said["runs"]
    kept = [json.loads(path.read_text()) for path in tmp_path.glob("var/mlrun/artifacts/*/*roc*.json")]
    assert [artifact["kind"] for artifact in kept] == ["plot"]


def test_without_the_data_folder_it_says_what_to_set(notebook: NotebookNode, tmp_path: Path) -> None:
    notebook.cells = [cell for cell in notebook.cells if cell["id"] == "setup"]
    with pytest.raises(CellExecutionError, match="Set SHIELD_DATA to the data folder"):
        execute(notebook, tmp_path, tmp_path / "nowhere")


def test_it_is_kept_without_what_running_leaves_in_it(notebook: NotebookNode) -> None:
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) >= 6
    assert not any(cell.outputs or cell.execution_count for cell in code)
    (handlers,) = [cell.source for cell in code if "# mlrun: start-code" in cell.source]
    assert handlers.startswith("# mlrun: start-code\n")
    assert handlers.endswith("# mlrun: end-code")
