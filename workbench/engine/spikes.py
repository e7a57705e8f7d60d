"""A loss that leaps: finite, so that the training goes on, and worth a look."""

from collections import deque
from statistics import median

from workbench.events import StepDone

LEAP = 10.0  # times the usual loss
NUM_USUAL = 10  # logged losses whose median is the usual one
NUM_NEEDED = 5  # before anything is called usual


class Spikes:
    """Looks at the logged losses of one run, and says once when they leap."""

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=NUM_USUAL)
        self._terms: set[str] = set()
        self._has_leapt = False

    def news(self, event: StepDone) -> str:
        """A line for people where the loss has just leapt above its usual size; else nothing.

        A term that comes on or goes off changes what is usual, and nothing is said until that is known again.
        """
        if event.terms.keys() != self._terms:
            self._losses.clear()
            self._terms = set(event.terms)
        usual = median(self._losses) if len(self._losses) >= NUM_NEEDED else 0.0
        leaps = 0 < LEAP * usual < event.loss
        is_news = leaps and not self._has_leapt
        self._has_leapt = leaps
        if not leaps:
            self._losses.append(event.loss)
        if not is_news:
            return ""
        worst = max(event.weighted, key=lambda name: event.weighted[name])
        return f"the loss leapt to {event.loss:.4g} from about {usual:.4g}, most of it {worst}; the training goes on"
