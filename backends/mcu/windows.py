"""Where windows slide over an image, and the index arithmetic of that as C."""

from __future__ import annotations

from dataclasses import dataclass


def quotient(dividend: str, divisor: int, limit: int, prefix: str) -> str:
    """C for ``dividend / divisor``, for dividends below ``limit``, without a division.

    Armv6-M has none, nor a multiplication with a 64-bit product; where no multiplication in 32
    bits is exact, the emitted function ``<prefix>_divide`` is called.
    """
    if divisor == 1:
        return dividend
    if divisor >= limit:
        return "0u"
    for shift in range(1, 32):
        factor = -(-(1 << shift) // divisor)
        error = factor * divisor - (1 << shift)
        if error * (limit - 1) < 1 << shift and factor * (limit - 1) < 1 << 32:
            return (
                f"({dividend} * {factor}u) >> {shift}" if factor > 1 else f"{dividend} >> {shift}"
            )
    return f"{prefix}_divide({dividend}, {divisor}u)"


@dataclass(frozen=True, slots=True)
class Window:
    """One dimension of a sliding window."""

    size: int
    places: int
    kernel: int
    stride: int
    padding: int
    dilation: int = 1

    @property
    def furthest(self) -> int:
        """The largest padded coordinate at which a window starts."""
        return (self.places - 1) * self.stride

    @property
    def overlaps(self) -> bool:
        """Whether windows share elements."""
        return self.kernel > self.stride

    @property
    def sees(self) -> bool:
        """Whether any window looks at an element, and not at padding alone."""
        taps = range(0, self.kernel * self.dilation, self.dilation)
        starts = range(0, self.furthest + 1, self.stride)
        return any(
            place + self.padding - tap in starts for place in range(self.size) for tap in taps
        )


@dataclass(frozen=True, slots=True)
class Reach:
    """The rows that a band sees: ``first * step - before`` to before ``first * step + after``."""

    step: int
    before: int
    after: int

    def through(self, window: Window) -> Reach:
        """The rows of a pool's input."""
        below = (self.after - 1) * window.stride + window.kernel - window.padding
        return Reach(self.step * window.stride, self.before * window.stride + window.padding, below)


def reach_of(window: Window, band: int) -> Reach:
    """The rows that ``band`` rows of windows see."""
    after = (band - 1) * window.stride + (window.kernel - 1) * window.dilation + 1
    return Reach(window.stride, window.padding, after - window.padding)


@dataclass(frozen=True, slots=True)
class Image:
    """How a flat index splits into channel, row and column, and what windows slide over it."""

    channels: int
    y: Window
    x: Window
    prefix: str

    @property
    def plane(self) -> int:
        """Elements of an input channel."""
        return self.y.size * self.x.size

    @property
    def out_plane(self) -> int:
        """Elements of an output channel."""
        return self.y.places * self.x.places

    @property
    def channel(self) -> str:
        """C for the channel of the flat index ``i``."""
        return quotient("i", self.plane, self.plane * self.channels, self.prefix)

    @property
    def row(self) -> str:
        """C for the row of ``place``, an index within a channel."""
        return quotient("place", self.x.size, self.plane, self.prefix)

    def start(self, window: Window, coordinate: str) -> str:
        """C for the last window that starts at or before a padded coordinate."""
        limit = window.size + window.padding
        return quotient(coordinate, window.stride, limit, self.prefix)

    def first(self, window: Window, coordinate: str) -> str:
        """C for the first window that holds a padded coordinate, where windows overlap."""
        if window.size + window.padding <= window.kernel:
            return "0u"
        last = f"({coordinate} - {window.kernel}u)"
        before = quotient(last, window.stride, window.size, self.prefix)
        return f"{coordinate} < {window.kernel}u ? 0u : ({before}) + 1u"

    def last(self, window: Window, coordinate: str) -> str:
        """C for the last window that holds a padded coordinate."""
        start = self.start(window, coordinate)
        if window.furthest + window.stride >= window.size + window.padding:
            return start
        top = window.places - 1
        return f"({start}) > {top}u ? {top}u : {start}" if top else "0u"
