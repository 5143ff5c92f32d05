import base64

import numpy as np
import pytest

MODEL = "all-MiniLM-L6-v2"


@pytest.fixture
def http(make_http):
    return make_http(index="docs")


def test_vectors_come_in_order_as_numbers_or_base64(http):
    found = http.post("/v1/embeddings", {"model": MODEL, "input": ["green tea", "black coffee"]}).json()
    assert [entry["index"] for entry in found["data"]] == [0, 1]
    assert found["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    expected = http.searcher.embedder.embed(["green tea"])[0]
    assert np.allclose(found["data"][0]["embedding"], expected)
    coded = http.post("/v1/embeddings", {"model": MODEL, "input": "green tea", "encoding_format": "base64"}).json()
    assert np.allclose(np.frombuffer(base64.b64decode(coded["data"][0]["embedding"]), "<f4"), expected)


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"model": "other"}, 404, "model"),
        ({"input": ""}, 400, "input"),
        ({"input": []}, 400, "input"),
        ({"input": ["x", " "]}, 400, "input.1"),
        ({"input": [1, 200]}, 400, "input"),
        ({"input": [[1], []]}, 400, None),
        ({"input": ["x"] * 257}, 400, "input"),
        ({"dimensions": 8}, 400, "dimensions"),
        ({"colour": 1}, 400, "colour"),
    ],
)
def test_what_cannot_be_embedded_is_an_openai_error(http, fields, status, param):
    response = http.post("/v1/embeddings", {"model": MODEL, "input": "x", **fields})
    assert response.status_code == status, response.text
    assert param is None or response.json()["error"]["param"] == param


def test_token_ids_are_those_of_the_embedding_model(http):
    found = http.post("/v1/embeddings", {"model": MODEL, "input": [[1, 2], [3]]}).json()["data"]
    expected = http.searcher.embedder.embed(["w1 w2", "w3"])
    assert np.allclose([entry["embedding"] for entry in found], expected)
    (alone,) = http.post("/v1/embeddings", {"model": MODEL, "input": [1, 2]}).json()["data"]
    assert np.allclose(alone["embedding"], expected[0])


def test_vectors_are_shortened_where_the_model_was_trained_for_it(make_http):
    http = make_http(index="docs", embedding={"shorter": [48, 999]})
    (entry,) = http.post(
        "/v1/embeddings", {"model": MODEL, "input": "green tea is hot water with leaves in a cup", "dimensions": 48}
    ).json()["data"]
    whole = http.searcher.embedder.embed(["green tea is hot water with leaves in a cup"])[0][:48]
    assert np.allclose(entry["embedding"], whole / np.linalg.norm(whole))
    refused = http.post("/v1/embeddings", {"model": MODEL, "input": "x", "dimensions": 999}).json()["error"]
    assert "has 48, 64, and no others" in refused["message"]


def test_half_a_character_is_refused(http):
    content = b'{"model": "all-MiniLM-L6-v2", "input": "a\\ud800"}'
    response = http._run("POST", "/v1/embeddings", content=content, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "input")


def test_the_model_is_listed(http):
    assert MODEL in [model["id"] for model in http.get("/v1/models").json()["data"]]
    assert http.get(f"/v1/models/{MODEL}").json()["id"] == MODEL
