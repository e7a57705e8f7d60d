import pytest

from workbench.views.units import duration, size


@pytest.mark.parametrize(
    ("num_bytes", "said"),
    [
        (0, "0 bytes"),
        (512, "512 bytes"),
        (1000, "1.0 kB"),
        (9_949, "9.9 kB"),
        (9_951, "10 kB"),
        (999_400, "999 kB"),
        (999_600, "1.0 MB"),
        (27_648_000, "28 MB"),
        (95e9, "95 GB"),
        (4_000e9, "4,000 GB"),
    ],
)
def test_sizes_are_said_as_people_say_them(num_bytes: float, said: str) -> None:
    assert size(num_bytes) == said


@pytest.mark.parametrize(("seconds", "said"), [(0.2, "0 s"), (59, "59 s"), (90, "1.5 min"), (7_200, "2.0 h")])
def test_durations_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said
