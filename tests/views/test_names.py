from rich.cells import cell_len

from workbench.views.names import shortened, told_apart

CELLS = [f"fd_temp-fd.weight={weight} scale=20-s{seed}" for weight in (10, 100, 1000) for seed in (0, 1)]


def test_long_names_lose_what_they_share_and_can_be_told_apart() -> None:
    shown = told_apart(CELLS, 16)
    assert len(set(shown)) == len(CELLS)
    assert all((cell_len(name) <= 16 and name.startswith("…weight=")) or "…" in name for name in shown)
    assert [name[-2:] for name in shown] == ["s0", "s1"] * 3


def test_short_names_and_a_single_one_keep_their_beginning() -> None:
    assert told_apart(["clip-kd-s0", "clip-kd-s1"], 16) == ["clip-kd-s0", "clip-kd-s1"]
    assert told_apart(["clip-kd-very-long-name-s0"], 16) == [shortened("clip-kd-very-long-name-s0", 16)]
    assert told_apart([], 16) == []
    assert told_apart(["a" * 20, "a" * 20 + "b"], 8) == ["aaa…aaaa", "aaa…aaab"]
