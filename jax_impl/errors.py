"""The error that means bad input."""


class InputError(ValueError):
    """Bad input. The message is one line: what was wrong, where, and what to do."""


def one_line(error: BaseException) -> str:
    """What an exception of somebody else's says, or else its type, on one line."""
    return " ".join(str(error).split())[:400] or type(error).__name__
