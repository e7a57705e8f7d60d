import math

import pytest

from workbench.views.units import clock, duration, rate, size


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


@pytest.mark.parametrize(
    ("per_s", "said"), [(0.004, "0.00"), (0.43, "0.43"), (0.996, "1.0"), (5.24, "5.2"), (9.96, "10"), (1234.4, "1,234")]
)
def test_a_rate_has_two_digits_at_least(per_s: float, said: str) -> None:
    assert rate(per_s) == f"{said} pairs/s"


@pytest.mark.parametrize("time_s", [math.nan, math.inf, -math.inf, 1e300])
def test_a_time_that_is_no_date_is_dashes(time_s: float) -> None:
    assert clock(time_s) == "--:--:--"
