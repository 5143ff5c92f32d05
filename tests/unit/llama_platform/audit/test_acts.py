from llama_platform.audit.acts import act_writer, acted
from llama_platform.audit.trail import read_trail, verify_trail
from llama_platform.errors import StorageError
from llama_platform.storage.open_store import open_store


def test_an_act_says_who_did_what(tmp_path):
    store = open_store(str(tmp_path))
    acted(store, "keys.revoke", key="0" * 12)
    acted(store, "adapter.promote", name="support", version=3)
    acts = [record for record in read_trail(store) if record["kind"] == "act"]
    assert sorted(act["what"] for act in acts) == ["adapter.promote", "keys.revoke"]
    assert all("@" in act["who"] for act in acts)
    assert [chain.problems for chain in verify_trail(store)] == [(), ()]
    assert act_writer() != act_writer()


def test_what_cannot_be_recorded_is_said_and_stays_done(tmp_path, monkeypatch, capsys):
    store = open_store(str(tmp_path))

    def away(*_, **__):
        raise StorageError("away")

    monkeypatch.setattr(store, "write", away)
    acted(store, "keys.revoke", key="0" * 12)
    assert capsys.readouterr().err == "done, but not in the audit trail: away\n"
