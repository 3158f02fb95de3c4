"""Tracking: the one door to MLRun. Runs, their parameters, results, tables and plots.

Without further ado they are kept in var/mlrun (training/rundb.py). MLRUN_DBPATH points at an MLRun service instead.
Importing this module is quick; MLRun itself, which takes seconds, is imported with the first run.
"""

import csv
import functools
import importlib
import io
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

ROOT = Path("var/mlrun")
PROJECT = "deepfake-shield"
Selector = Literal["min.loss", "max.auc"]


class Run(Protocol):
    """What is noted of a run: MLRun's execution context."""

    def log_result(self, key: str, value: Any) -> None:
        """Note a figure."""
        ...

    def log_artifact(self, item: Any, **where: Any) -> Any:
        """Keep a file, a table or a plot."""
        ...


def mlrun() -> Any:
    """MLRun, connected: to the service of MLRUN_DBPATH, or to the folder var/mlrun."""
    os.environ.setdefault("MLRUN_LOG_LEVEL", "ERROR")
    module = importlib.import_module("mlrun")
    if not module.mlconf.dbpath:
        _use_folder(module, ROOT.resolve())
    module.mlconf.default_project = PROJECT
    return module


def _use_folder(module: Any, root: Path) -> None:
    """Have MLRun make our run database where it would connect to its service."""
    from dependency_injector import providers
    from mlrun.db.factory import RunDBFactory

    from training.rundb import SCHEME, FileRunDB

    factory = RunDBFactory()
    factory._rundb_container.run_db.override(providers.Factory(FileRunDB))  # noqa: SLF001 - its only switch
    module.mlconf.dbpath = f"{SCHEME}{root}"
    if "MLRUN_ARTIFACT_PATH" not in os.environ:
        module.mlconf.artifact_path = str(root / "files")
    module.get_run_db(module.mlconf.dbpath)


@contextmanager
def run(name: str, params: dict[str, Any] | None = None) -> Iterator[Run]:
    """A tracked run: completed when the block ends, failed with the reason when it raises."""
    module = mlrun()
    # With a spec of its own, a run does not join another one that this process has made before.
    spec = {
        "metadata": {"name": name, "uid": uuid.uuid4().hex, "project": PROJECT},
        "spec": {"parameters": params or {}, "output_path": module.mlconf.artifact_path},
    }
    context = module.get_or_create_ctx(name, spec=spec, project=PROJECT)
    try:
        yield context
    except BaseException as error:
        context.set_state(error=f"{type(error).__name__}: {error}", commit=True)
        raise
    context.commit(completed=True)


def log_plot(run: Run, key: str, figure: Any) -> None:
    """Keep a matplotlib figure as MLRun's PlotArtifact."""
    run.log_artifact(mlrun().artifacts.PlotArtifact(key, body=figure))


def log_table(run: Run, key: str, rows: list[dict[str, Any]]) -> None:
    """Keep rows, which share their keys, as a CSV artifact."""
    text = io.StringIO()
    table = csv.DictWriter(text, rows[0])
    table.writeheader()
    table.writerows(rows)
    run.log_artifact(key, body=text.getvalue(), local_path=f"{key}.csv", format="csv")


def grid(
    name: str, point: Callable[..., None], values: dict[str, list[Any]], selector: Selector, out: Path
) -> tuple[list[list[Any]], dict[str, Any]]:
    """Run `point(context, **parameters)` for every combination of `values`; each logs what the selector compares.

    Returns the results table (its first row is the header) and the parameters of the best point. Raises RuntimeError
    where a point failed, or none gave the selector a number.
    """
    module = mlrun()
    failed: list[str] = []

    @functools.wraps(point)  # MLRun looks at the signature
    def watched(context: Run, **parameters: Any) -> None:
        try:
            point(context, **parameters)
        except Exception as error:
            failed.append(f"{parameters}: {error}")
            raise

    task = module.new_task(name, project=PROJECT, artifact_path=str(out.resolve()))
    task = task.with_hyper_params(values, selector=selector)
    function = module.new_function(name, kind="local", project=PROJECT)
    try:
        done = function.run(task, handler=watched, local=True, watch=False)
    except module.runtimes.utils.RunError as error:
        raise RuntimeError(f"{len(failed)} of the points of {name} failed, the first with {failed[0]}") from error
    table = done.status.iterations
    best = done.status.results.get("best_iteration") if done.status.results else None
    if not best:
        raise RuntimeError(f"no point of {name} gave a number to select {selector} by")
    header, rows = table[0], table[1:]
    row = next(row for row in rows if row[header.index("iter")] == best)
    chosen = {key: row[header.index(f"param.{key}")] for key in values}
    return table, chosen


def runs(name: str | None = None) -> list[dict[str, Any]]:
    """Tracked runs as MLRun stores them, newest first."""
    return list(mlrun().get_run_db().list_runs(name=name, project=PROJECT))


def artifacts(uid: str) -> list[str]:
    """The names of what a run kept."""
    return [body["metadata"]["key"] for body in mlrun().get_run_db().list_artifacts(project=PROJECT, tree=uid)]
