"""Names that people give to accounts, people and keys: how they are kept, and how a terminal is shown them."""

import re
import unicodedata

from shield.errors import InvalidSubmission

LONGEST = 200  # characters
ID = re.compile(r"[a-z]{3}_[0-9a-f]{27}")  # as shield.db.new_id makes them
# Of a class of characters: controls, ends of lines, what makes text read otherwise than it is written.
UNSEEN = r"\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069"
REFUSED = re.compile(rf"[{UNSEEN}\ud800-\udfff]")  # and halves of a character


def tidy(name: str) -> str:
    """A name as it is kept and looked for: one way to write each character (NFC), no space around it."""
    return unicodedata.normalize("NFC", name).strip()


def check(name: str, whose: str) -> str:
    """A new name, tidied; `whose` it is goes into the error, as in "an account". Raises InvalidSubmission."""
    found = tidy(name)
    if not 1 <= len(found) <= LONGEST:
        raise InvalidSubmission(f"{whose} needs a name of 1 to {LONGEST} characters", "/name")
    if REFUSED.search(found):
        raise InvalidSubmission(f"the name of {whose} holds a character that cannot be seen: leave it out", "/name")
    if ID.fullmatch(found):  # who looks for the thing of that id must not find this one
        raise InvalidSubmission(f"the name of {whose} may not look like an id: choose another", "/name")
    return found


def is_text(given: str) -> bool:
    """Whether it can be written as UTF-8: an argument that came in another encoding cannot."""
    try:
        given.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(line: str) -> str:
    """A line for a terminal, which would obey what is in it and cannot be printed: that is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
