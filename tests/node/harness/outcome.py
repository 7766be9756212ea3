"""How a scene ends, other than well."""


class Failed(Exception):
    """What was promised did not hold."""


class Skipped(Exception):
    """The scene needs what is not here; the text says what."""


def check(true, text):
    if not true:
        raise Failed(text)


def equal(found, wanted, what):
    check(found == wanted, f"{what}: {found!r}, not {wanted!r}")


def contains(text, part, what):
    check(part in text, f"{what}: no {part!r} in {text!r}")
