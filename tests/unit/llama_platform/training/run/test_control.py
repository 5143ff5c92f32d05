from llama_platform.training.run.control import RunControl


def test_the_board_gives_what_is_new():
    board = RunControl()
    board.post([{"step": 1}])
    board.post([{"step": 2}, {"step": 3}])
    assert board.read_from(1) == [{"step": 2}, {"step": 3}]
    assert board.read_from(3) == []


def test_a_request_to_stop_stays():
    board = RunControl()
    assert not board.stop_requested()
    board.request_stop()
    assert board.stop_requested()
