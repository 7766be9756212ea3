"""How a scene can end, other than by passing."""


class Failed(Exception):
    """A promise did not hold."""


class Skipped(Exception):
    """The scene's requirements are missing; the text says which."""


def check(true, text):
    if not true:
        raise Failed(text)


def equal(found, wanted, what):
    check(found == wanted, f"{what}: {found!r}, not {wanted!r}")


def contains(text, part, what):
    check(part in text, f"{what}: no {part!r} in {text!r}")
