from workbench import progress as shown
from workbench.progress import progress


def test_items_pass_through_and_one_line_is_said(capsys):
    assert list(progress(iter("abc"), 3_000, "drawing letters")) == ["a", "b", "c"]
    assert capsys.readouterr().err == "drawing letters (3,000 pairs)\n"


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(shown, "BAR_AFTER_S", 0.0)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    assert list(progress(range(200), 0, "drawing letters")) == list(range(200))
    assert "drawing letters" in capsys.readouterr().err
