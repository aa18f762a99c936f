"""Names for C: safe and unique identifiers, file names and comments from any text."""

from __future__ import annotations

import json
import re
import unicodedata

LONGEST = 48
_KEYWORDS = frozenset(
    re.findall(
        r"\w+",
        """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t
    char32_t class compl concept const consteval constexpr constinit const_cast continue co_await
    co_return co_yield decltype default delete do double dynamic_cast else enum explicit export
    extern false float for friend goto if inline int long mutable namespace new noexcept not
    not_eq nullptr operator or or_eq private protected public register reinterpret_cast requires
    restrict return short signed sizeof static static_assert static_cast struct switch template
    this thread_local throw true try typedef typeid typename typeof union unsigned using virtual
    void volatile wchar_t while xor xor_eq main
    """,
    )
)
_HEADERS = frozenset(
    re.findall(
        r"\w+",
        """
    assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal
    stdalign stdarg stdatomic stdbit stdbool stdckdint stddef stdint stdio stdlib stdnoreturn
    string tgmath threads time uchar wchar wctype unistd
    """,
    )
)
# C reserves these beginnings for its library when a lower-case letter follows.
_RESERVED = re.compile(r"(str|mem|wcs|is|to|atomic|cnd|mtx|thrd|tss)[a-z]")


def identifier(text: str, fallback: str = "net") -> str:
    """A C and C++ identifier that looks like ``text``: letters, digits and single underscores.

    Args:
        text: Any text, with quotes, newlines or nothing in it.
        fallback: Starts the name where ``text`` has no letter to start with.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9]+", "_", plain).strip("_")[:LONGEST].rstrip("_")
    if not name or name[0].isdigit():
        name = f"{fallback}_{name}".rstrip("_")
    return name


def prefix_of(text: str) -> str:
    """What every public name of a network starts with; also the name of its files."""
    name = identifier(text).lower()
    if name in _KEYWORDS | _HEADERS or _RESERVED.match(name):
        return f"net_{name}"
    return name


class Names:
    """Hands out identifiers, each once."""

    def __init__(self, taken: frozenset[str] = frozenset()) -> None:
        self.taken = set(taken | _KEYWORDS)

    def new(self, text: str, fallback: str = "x") -> str:
        """An identifier like ``text`` that was not handed out before."""
        base = identifier(text, fallback)
        name, number = base, 2
        while name in self.taken:
            name, number = f"{base}_{number}", number + 1
        self.taken.add(name)
        return name


def quoted(text: str) -> str:
    """``text`` as a literal that may stand in a C comment: ASCII, on one line, ending nothing."""
    literal = json.dumps(text).replace("*/", "* /").replace("/*", "/ *")
    return re.sub(r"\?(?=\?)", "? ", literal)  # no trigraphs
