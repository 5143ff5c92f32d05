import pytest


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/adapters/support/promote", {"version": 9}, 404),
        ("/adapters/support/promote", {}, 400),
        ("/adapters/support/promote", {"version": 1, "alias": "../x"}, 400),
        ("/adapters/support/split", {"weights": {}}, 400),
        ("/adapters/support/split", {"weights": {"1": 0}}, 400),
        ("/adapters/Bad%20Name/promote", {"version": 1}, 400),
        ("/adapters/support/import", {"source": "/etc"}, 400),
        ("/adapters/export", {"ref": "support@1", "destination": "file:///tmp/x"}, 400),
    ],
)
def test_wrong_changes_are_refused(admin, path, body, status):
    assert admin("POST", path, body).status_code == status
