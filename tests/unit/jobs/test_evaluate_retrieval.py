import json

from jobs.evaluate_retrieval import main


def test_paragraphs_of_a_squad_file_are_searched_and_measured(tmp_path, capsys):
    contexts = {
        "Green tea needs water of eighty degrees.": "How hot is the water for tea?",
        "Coffee grows on hills.": "Where does coffee grow?",
    }
    paragraphs = [{"context": text, "qas": [{"question": asked, "answers": []}]} for text, asked in contexts.items()]
    (tmp_path / "squad.json").write_text(json.dumps({"data": [{"title": "Drinks", "paragraphs": paragraphs}]}))
    assert main(["--set", f"questions={tmp_path / 'squad.json'}", "--set", f"output={tmp_path / 'out'}"]) == 0
    assert "hybrid" in capsys.readouterr().out
    report = json.loads((tmp_path / "out/retrieval.json").read_text())
    assert report["questions"] == 2
    assert report["modes"]["dense"]["recall"]["1"] == 1.0
    assert (tmp_path / "out/retrieval.png").read_bytes().startswith(b"\x89PNG")


def test_json_lines_need_an_index(tmp_path, capsys):
    (tmp_path / "q.jsonl").write_text('{"question": "a", "document": "b"}\n')
    assert main(["--set", f"questions={tmp_path / 'q.jsonl'}"]) == 2
    assert "index" in capsys.readouterr().err
    assert main(["--set", f"questions={tmp_path / 'none'}"]) == 2
