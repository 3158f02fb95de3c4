"""A run database in a folder: MLRun's runs and artifacts as JSON files, for training without a server.

MLRun 1.12 has no database without its service: a grid with a selector then fails once all of its points have run. This
one keeps what a training needs (runs, artifacts); everything else that the interface names does nothing.
"""

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import mlrun
from mlrun.db.nopdb import NopDB
from mlrun.lists import ArtifactList, RunList
from mlrun.utils import dict_to_json, update_in

SCHEME = "file://"


class FileRunDB(NopDB):  # type: ignore[misc]  # mlrun has no types
    """Runs under ROOT/runs/PROJECT, artifacts under ROOT/artifacts/PROJECT; each file is replaced in one rename."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.root = Path(url.removeprefix(SCHEME))

    def __getattribute__(self, name: str) -> Any:
        return object.__getattribute__(self, name)  # the parent warns at every access that there is no database

    def store_run(self, struct: Any, uid: str, project: str = "", iter: int = 0) -> None:  # noqa: A002
        """Keep a run, whole."""
        _write(self._run(uid, project, iter), struct if isinstance(struct, dict) else struct.to_dict())

    def update_run(self, updates: dict[str, Any], uid: str, project: str = "", iter: int = 0) -> None:  # noqa: A002
        """Set fields of a run, named by dotted paths."""
        run = self.read_run(uid, project, iter)
        for path, value in updates.items():
            update_in(run, path, value)
        self.store_run(run, uid, project, iter)

    def read_run(self, uid: str, project: str = "", iter: int = 0, **_: Any) -> dict[str, Any]:  # noqa: A002
        """Give a run. Raises MLRunNotFoundError when there is none."""
        return _read(self._run(uid, project, iter))

    def del_run(self, uid: str, project: str = "", iter: int = 0) -> None:  # noqa: A002
        """Forget a run."""
        self._run(uid, project, iter).unlink(missing_ok=True)

    def list_runs(
        self,
        name: str | None = None,
        uid: str | list[str] | None = None,
        project: str | None = None,
        iter: bool = False,  # noqa: A002
        **_: Any,
    ) -> RunList:
        """Runs, newest first; the points of a grid too where `iter` asks for them."""
        runs = [_read(path) for path in self.root.glob(f"runs/{quote(project or '*', safe='*')}/*.json")]
        wanted = [
            run
            for run in runs
            if name in (None, run["metadata"].get("name"))
            and (uid is None or run["metadata"]["uid"] in uid)
            and (iter or not run["metadata"].get("iteration"))
        ]
        return RunList(sorted(wanted, key=lambda run: str(run["status"].get("start_time", "")), reverse=True))

    def store_artifact(
        self,
        key: str,
        artifact: Any,
        uid: str | None = None,
        iter: int | None = None,  # noqa: A002
        tag: str = "",
        project: str = "",
        tree: str | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        """Keep an artifact's description; its body lies where the artifact's target path says."""
        body: dict[str, Any] = artifact if isinstance(artifact, dict) else artifact.to_dict()
        update_in(body, "metadata.tag", tag or "latest")
        _write(self._artifact(key, project, tree or uid or "", iter or 0), body)
        return body

    def read_artifact(
        self,
        key: str,
        tag: str | None = None,
        iter: int | None = None,  # noqa: A002
        project: str = "",
        tree: str | None = None,
        uid: str | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        """Give an artifact's description. Raises MLRunNotFoundError when there is none."""
        del tag
        return _read(self._artifact(key, project, tree or uid or "", iter or 0))

    def list_artifacts(
        self, name: str | None = None, project: str | None = None, tree: str | None = None, **_: Any
    ) -> ArtifactList:
        """Artifacts by key and by the run that made them."""
        found = [_read(path) for path in sorted(self.root.glob(f"artifacts/{quote(project or '*', safe='*')}/*.json"))]
        return ArtifactList(
            body
            for body in found
            if name in (None, body["metadata"]["key"]) and tree in (None, body["metadata"].get("tree"))
        )

    def _run(self, uid: str, project: str, number: int) -> Path:
        return self._file("runs", project, f"{uid}-{number}")

    def _artifact(self, key: str, project: str, tree: str, number: int) -> Path:
        return self._file("artifacts", project, f"{tree}-{key}-{number}")

    def _file(self, kind: str, project: str, name: str) -> Path:
        project = project or str(mlrun.mlconf.default_project)
        return self.root / kind / quote(project, safe="") / f"{quote(name, safe='')}.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise mlrun.errors.MLRunNotFoundError(f"{path.stem} is not in {path.parent}") from None
    return body


def _write(path: Path, body: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(dict_to_json(body), encoding="utf-8")
    partial.replace(path)
