from workbench.tui.home.board import Board
from workbench.tui.home.fields import names, ordered, query_of, shown, values
from workbench.tui.preferences import Preferences
from workbench.views.query import Query


def board_of(record) -> Board:
    for weight, last in ((1, 20), (500, 40), (2000, 60)):
        record(f"fd-{weight}", last=last, state="stopped", settings={"loss": {"fd": {"weight": weight}}})
    record("done", settings={"train": {"batch_size": 64}})
    board = Board(record.folder)
    while board.poll(1.0):
        pass
    return board


def selected(board: Board, text: str, **preferences) -> list[str]:
    rows = ordered(board, Preferences(**preferences), query_of(board, text), "image_to_text_r1")
    return [row.run.id for row in rows]


def test_queries_use_fields_settings_and_metrics_as_shown(record) -> None:
    board = board_of(record)
    assert set(selected(board, "loss.fd.weight>=500")) == {"fd-500", "fd-2000"}
    assert selected(board, "fd.weight<1000 progress>30") == ["fd-500"]
    assert selected(board, "state:finished") == ["done"]
    assert selected(board, "i2t_r1>49") == ["done"]  # in percent, as in the table
    assert selected(board, "batch_size=64") == ["done"]
    assert set(selected(board, "-done stopped")) == {"fd-1", "fd-500", "fd-2000"}


def test_any_setting_is_an_order_in_both_directions_and_what_lacks_it_is_last(record) -> None:
    board = board_of(record)
    assert selected(board, "", sort="loss.fd.weight") == ["fd-1", "fd-500", "fd-2000", "done"]
    assert selected(board, "", sort="loss.fd.weight", is_reversed=True) == ["fd-2000", "fd-500", "fd-1", "done"]
    assert selected(board, "", sort="progress")[0] == "done"
    assert selected(board, "", sort="progress", is_reversed=True)[0] == "fd-1"
    newest = selected(board, "", sort="newest")
    assert selected(board, "", sort="newest", is_reversed=True) == newest[::-1]


def test_names_and_values_complete_a_query(record) -> None:
    board = board_of(record)
    known = names(board)
    assert {"state", "image_to_text_r1", "loss.fd.weight", "train.batch_size"} <= set(known)
    assert known.index("loss.fd.weight") < known.index("recipe") or "recipe" in known[:4]
    assert values(board)["state"] == ["finished", "stopped"]
    assert shown(board.rows["fd-500"], "loss.fd.weight") == "500"
    assert shown(board.rows["done"], "loss.fd.weight") == ""


def test_without_a_query_nothing_is_left_out(record) -> None:
    board = board_of(record)
    assert len(ordered(board, Preferences(), Query(), "image_to_text_r1")) == 4
