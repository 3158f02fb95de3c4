"""The record as tables: as text for a terminal, as Markdown for docs/performance.md."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

BEGIN, END = "<!-- made by `python -m benchmarks.bench --out docs` -->", "<!-- end of what it made -->"
PICTURES = {  # by level
    "model": ("performance-model.png", "Networks: share of the cores' matrix product, by engine and batch"),
    "pipeline": ("performance-pipeline.png", "Images a second: scanner, limit, reference"),
    "system": ("performance-flame.png", "CPU time of a scan worker by stack of functions"),
    "long": ("performance-memory.png", "Memory of a scan worker along the long job"),
}


@dataclass(frozen=True, slots=True)
class Table:
    """A title, a sentence, a head and rows of cells; the first column is words, the others are figures."""

    title: str
    note: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self) -> str:
        """For a terminal."""
        lines = [self.head, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.head))]
        drawn = [
            "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
            for line in lines
        ]
        return "\n".join([self.title, *(f"  {line}" for line in drawn)])

    def markdown(self) -> str:
        """For a page."""
        rule = ["---", *["---:"] * (len(self.head) - 1)]
        lines = [f"| {' | '.join(cells)} |" for cells in (self.head, rule, *self.rows)]
        return "\n".join([f"### {self.title}", "", self.note, "", *lines])


def tables(record: dict[str, Any]) -> Iterator[Table]:
    """One table or more for each level that was measured."""
    makers = {"model": _model, "pipeline": _pipeline, "system": _system, "growth": _growth, "long": _long}
    for level, make in makers.items():
        if level in record:
            yield from make(record[level])


def _model(record: dict[str, Any]) -> Iterator[Table]:
    cells: dict[tuple[str, int], dict[str, str]] = {}
    engines = list(dict.fromkeys(row["engine"] for row in record["rows"]))
    for row in record["rows"]:
        shown = f"{row['images_per_second']:.0f} ({row['of_peak']:.0%})"
        cells.setdefault((row["network"], row["batch"]), {})[row["engine"]] = shown
    yield Table(
        "Networks alone",
        f"Images a second, and the share of the {record['sgemm_gflops']:.0f} GFLOP a second that the same cores reach"
        " in a product of large matrices. The batch is what an engine is given at once.",
        ("network, batch", *engines),
        [
            (f"{network}, {batch}", *(found.get(engine, "") for engine in engines))
            for (network, batch), found in cells.items()
        ],
    )


def _pipeline(record: dict[str, Any]) -> Iterator[Table]:
    yield Table(
        "The pipeline",
        "Images a second. The limit is the networks' own time for the same passes at their best batch, and the JPEG"
        " decode. The reference takes one photo at a time through eager torch.",
        ("photos", "faces found", "scanner", "limit", "reference", "of limit", "over reference", "CPU ms an image"),
        [
            (
                row["kind"],
                f"{row['faces_found']:.2f}",
                *(f"{row[f'{who}images_per_second']:.1f}" for who in ("", "limit_", "reference_")),
                f"{row['of_limit']:.2f}",
                f"{row['over_reference']:.1f}",
                f"{row['processor_ms_per_image']:.0f}",
            )
            for row in record["kinds"]
        ],
    )
    sizes = [name for name in record["detectors"][0] if name.startswith(("recall_to", "recall_from"))]
    yield Table(
        "Faces found",
        "On photos with boxes that people drew. Recall by the size of the face and of all, at an overlap of 0.5, and of"
        " all at 0.3; boxes a photo that are no face's; photos a second, decoding not counted, and over ours.",
        ("detector", *(_size(name) for name in sizes), "all", "all at 0.3", "false", "photos/s", "over ours"),
        [
            (
                row["detector"],
                *(f"{row[name]:.3f}" for name in (*sizes, "recall", "recall_at_lesser_overlap")),
                f"{row['false_per_photo']:.2f}",
                f"{row['photos_per_second']:.1f}",
                f"{row['times_ours']:.2f}",
            )
            for row in record["detectors"]
        ],
    )


def _size(name: str) -> str:
    return name.removeprefix("recall_").replace("_", " ")


def _system(record: dict[str, Any]) -> Iterator[Table]:
    through = record["throughput"]
    yield Table(
        "The whole system",
        f"One bulk job of {through['images']} photos (1080p, one face), beside the pipeline alone.",
        ("images a second", "median"),
        [
            ("pipeline alone, with views", f"{through['pipeline_images_per_second']:.1f}"),
            ("system, from the 202 to the job's end", f"{through['images_per_second']:.1f}"),
            ("system, upload included", f"{through['images_per_second_from_the_first_byte_posted']:.1f}"),
            ("system over pipeline", f"{through['of_pipeline']:.2f}"),
        ],
    )
    yield Table(
        "Latency of a single image",
        "From the row of the job to the row of its end, in milliseconds.",
        ("while", "images", "p50", "p95"),
        [
            (name, str(found["singles"]), f"{found['p50_ms']:.0f}", f"{found['p95_ms']:.0f}")
            for name, found in record["latency"].items()
        ],
    )
    yield Table(
        "Where a worker's CPU time goes",
        "By stage during a bulk job: the networks, the decoders, and otherwise the file of ours that was at work.",
        ("stage", "share"),
        [(stage, f"{share:.1%}") for stage, share in record["stages"].items() if share >= 0.005],
    )


def _growth(record: dict[str, Any]) -> Iterator[Table]:
    yield Table(
        "More workers",
        "Each pinned to a core, with one thread; images a second. Scanners alone have no API, queue and database beside"
        " them: what two of them reach is what two cores and one memory give.",
        ("", "one", "two", "two over one"),
        [
            (
                name,
                *(f"{rate:.1f}" for rate in record[level]["images_per_second"].values()),
                f"{record[level]['ratio']:.2f}",
            )
            for level, name in (("system", "workers, the whole system"), ("alone", "scanners alone"))
        ],
    )


def _long(record: dict[str, Any]) -> Iterator[Table]:
    short, long = record["short"], record["long"]
    width, height = record["photo_pixels"]
    yield Table(
        "A long job",
        f"Photos of {width} x {height} pixels, each of its own bytes, in one zip through the whole system.",
        ("figure", f"{short['images']} images", f"{long['images']} images"),
        [
            (name, f"{short[name]:g}" if name in short else "", f"{value:g}")
            for name, value in long.items()
            if name != "images"
        ],
    )


def filled(page: str, record: dict[str, Any]) -> str:
    """A page with what was measured between its marks, whatever stood there before. Raises ValueError without them."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no place for the tables, between {BEGIN} and {END}")
    pictures = [f"![{words}](pictures/{name})" for level, (name, words) in PICTURES.items() if level in record]
    parts = [_head(record), _bars(record), *(found.markdown() for found in tables(record)), *pictures]
    return before + "\n\n".join([BEGIN, *parts, END]) + after


def _head(record: dict[str, Any]) -> str:
    """Where and how it was measured."""
    machine = record["machine"]
    return (
        f"Measured on {machine['cores']} cores of {machine['processor']}, Python {machine['python']}, ONNX Runtime"
        f" {machine['onnxruntime']}; medians of {record['rounds']} rounds, {record['bar_rounds']} where the bars are."
    )


def _bars(record: dict[str, Any]) -> str:
    """The promises, as Markdown."""
    rows = [
        (
            f"`{bar['name']}`",
            f"{bar['value']:.3f}",
            f"{'at most' if bar['at_most'] else 'at least'} {bar['target']:g}",
            "" if bar["aim"] is None else f"{bar['aim']:g}",
            "holds" if bar["holds"] else "falls short",
        )
        for found in record["bars"].values()
        for bar in found
    ]
    note = "What has to hold in one run; the aim would be better still."
    return Table("Promises", note, ("bar", "value", "has to be", "aim", "verdict"), rows).markdown()
