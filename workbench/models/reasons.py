"""What another library's error says, short enough for a line of our own."""


def reason(error: BaseException) -> str:
    """The first line of the error's message; its type where it has none, or where the message alone is a key."""
    lines = str(error).splitlines()
    if not lines or isinstance(error, KeyError):
        return " ".join([type(error).__name__, *lines[:1]])
    return lines[0]
