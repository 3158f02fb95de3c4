"""Verdicts, reasons and errors in plain words, for people. Programs read the codes."""

import re

from shield.states import DeliveryState, DisabledReason, EventType, ItemState, JobState, Verdict

VERDICTS = {
    Verdict.FAKE: ("Fake", "Strong signs of a forged face."),
    Verdict.SUSPECT: ("Suspect", "Some signs of a forged face: a person should look at it."),
    Verdict.CLEAR: ("Clear", "No sign of a forged face. That does not prove that the photo is genuine."),
    Verdict.NO_FACE: ("No face", "There was nothing to judge."),
    Verdict.INCONCLUSIVE: ("Inconclusive", "The photo cannot be judged."),
}
STATES = {
    ItemState.PENDING: "Waiting",
    ItemState.LEASED: "Being scanned",
    ItemState.DONE: "Scanned",
    ItemState.FAILED: "Not scanned",
    ItemState.CANCELED: "Canceled",
}
JOB_STATES = {
    JobState.EXPANDING: "Preparing",
    JobState.QUEUED: "Waiting",
    JobState.RUNNING: "Scanning",
    JobState.CANCELING: "Canceling",
    JobState.ENDED: "Ended",
}
EVENTS = {  # that a webhook can be sent
    EventType.JOB_ENDED: "A job ended",
    EventType.JOB_CANCELED: "A job was canceled",
    EventType.ITEM_FLAGGED: "A photo is fake or suspect",
    EventType.ITEM_FAILED: "A photo could not be scanned",
    EventType.CASE_DECIDED: "A moderator decided a case",
    EventType.CASE_REOPENED: "A decision was taken back",
}
DELIVERY_STATES = {
    DeliveryState.PENDING: "Waiting",
    DeliveryState.SENDING: "Being sent",
    DeliveryState.WAITING: "Tried, will be tried again",
    DeliveryState.DELIVERED: "Delivered",
    DeliveryState.EXHAUSTED: "Given up",
    DeliveryState.DROPPED: "Dropped",
}
DISABLED = {
    DisabledReason.BY_ACCOUNT: "Disabled by your account.",
    DisabledReason.GONE: "Disabled, because it answered 410 Gone.",
    DisabledReason.FAILING: "Disabled, because every try failed for days.",
}
REASONS = {
    "no_face_found": "No face was found.",
    "faces_too_small": "Every face is too small to be judged.",
    "small_faces_ignored": "Some faces were too small to be judged.",
    "no_face_reaches_suspect": "No face scores high enough to be suspect.",
}
FINER = 0.95  # scores from here on are told to a tenth of a percent
REACHED = re.compile(r"(\d+)_of_(\d+)_faces_reach_(\w+)")
ERRORS = {
    "empty": "The file is empty.",
    "not_an_image": "This is not an image.",
    "unsupported_format": "Images of this format are not read. Send JPEG, PNG, WebP, GIF or BMP.",
    "truncated": "The image is cut off: its end is missing.",
    "too_many_pixels": "The image has too many pixels.",
    "too_large": "The file is too large.",
    "decode_failed": "The image is damaged and cannot be opened.",
    "decoder_crashed": "The image is damaged and cannot be opened safely.",
    "decode_timeout": "Opening the image took too long.",
    "scan_failed": "Scanning this image failed.",
    "fetch_failed": "The image could not be fetched from its address.",
    "blob_missing": "The stored image is gone.",
    "poison": "Scanning this image failed again and again, so it was given up.",
}


def reason_in_words(code: str) -> str:
    """A sentence for a reason; an unknown code is shown as it is, without underscores."""
    reached = REACHED.fullmatch(code)
    if reached is None:
        return REASONS.get(code, code.replace("_", " ").capitalize() + ".")
    count, judged, verdict = int(reached[1]), int(reached[2]), reached[3]
    level = f"high enough to be {verdict}"
    if judged == 1:
        return f"The face scores {level}."
    return f"{count} of {judged} faces {'scores' if count == 1 else 'score'} {level}."


def error_in_words(code: str) -> str:
    """A sentence for an error of an item; an unknown code is shown as it is, without underscores."""
    return ERRORS.get(code, code.replace("_", " ").capitalize() + ".")


def percent(score: float) -> str:
    """A score as a percentage, finer where thresholds lie; never 0 % or 100 %, which would claim certainty."""
    if score < FINER:
        rounded = round(100 * score)
        return "<1 %" if rounded <= 0 else f"{rounded} %"
    tenths = round(1000 * score)
    return ">99.9 %" if tenths >= 1000 else f"{tenths / 10:.1f} %"  # noqa: PLR2004


def photos(count: int) -> str:
    """A number of photos."""
    return "1 photo" if count == 1 else f"{count:,} photos"


def left(seconds: int) -> str:
    """How long something will still take, about."""
    for length, word in ((3600, "h"), (60, "min")):
        if seconds >= 1.5 * length:
            return f"about {round(seconds / length)} {word} left"
    return "about a minute left" if seconds > 40 else "less than a minute left"  # noqa: PLR2004
