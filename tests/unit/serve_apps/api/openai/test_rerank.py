import pytest

BODY = {"query": "green tea", "documents": ["black coffee", "green tea", "green grass"]}


@pytest.fixture
def http(make_http):
    return make_http(index="docs", rag={"rerank": "judge"})


def test_the_best_come_first(http):
    answer = http.post("/v1/rerank", BODY).json()
    assert [result["index"] for result in answer["results"]] == [1, 2, 0]
    assert answer["results"][0]["document"] == {"text": "green tea"}
    scores = [result["relevance_score"] for result in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    assert (answer["model"], answer["usage"]["total_tokens"]) == ("judge", 6)
    (best,) = http.post("/v1/rerank", BODY | {"top_n": 1, "return_documents": False, "model": "judge"}).json()[
        "results"
    ]
    assert best.keys() == {"index", "relevance_score"}


@pytest.mark.parametrize(
    ("fields", "status", "told"),
    [
        ({"model": "other"}, 404, "'judge' does"),
        ({"query": " "}, 400, "query"),
        ({"documents": []}, 400, "documents"),
        ({"documents": ["x"] * 257}, 400, "over the limit of 256"),
        ({"top_n": 0}, 400, "top_n"),
        ({"max_chunks_per_doc": 2}, 400, "max_chunks_per_doc"),
    ],
)
def test_what_cannot_be_judged_is_named(http, fields, status, told):
    response = http.post("/v1/rerank", BODY | fields)
    assert response.status_code == status
    assert told in response.text


@pytest.mark.parametrize("fields", [{"index": "docs"}, {"rag": {"rerank": "judge"}}])
def test_nothing_is_judged_where_nothing_is_configured(make_http, fields):
    response = make_http(**fields).post("/v1/rerank", BODY)
    assert response.status_code == 404
    assert "rag.rerank" in response.text
