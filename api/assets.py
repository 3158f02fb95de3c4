"""Scripts and styles under an address of their content, so that a page of one release never runs a script of another.

Such an address is kept by a browser for good: no page asks for it again.
"""

import hashlib
from pathlib import Path

from flask import Flask, Response, request

FOREVER = "public, max-age=31536000, immutable"
DIGITS = 12  # of a content's hash


def install(app: Flask) -> None:
    """Give the templates `asset(name)`: the address of a static file."""
    folder = Path(app.static_folder or "")
    versions = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:DIGITS] for path in folder.glob("*.*")}

    def keep(response: Response) -> Response:
        # Not under an address of other content: while a release is rolled out, a server of the one before may be asked.
        name = (request.view_args or {}).get("filename") if request.endpoint == "static" else None
        if name in versions and request.args.get("v") == versions[name]:
            response.headers["Cache-Control"] = FOREVER
        return response

    app.after_request(keep)
    app.jinja_env.globals["asset"] = lambda name: f"/static/{name}?v={versions[name]}"
