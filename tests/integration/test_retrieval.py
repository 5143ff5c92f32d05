"""Questions to the documents over HTTP, while indexes change; jobs, uploads and measurements as a user runs them."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from artifact_folders import fetched_folder
from llama_platform.artifacts.aliases import Aliases
from ray_nodes import wait_for
from served_app import ADMIN_TOKEN

pytestmark = pytest.mark.integration
HELM = "# Helm\n\n## Install\n\nInstall the operator with helm install operator.\n"
QUESTION = {"question": "How do I install the operator with Helm?", "top_k": 2, "max_new_tokens": 20}


def ask(client, question, **fields):
    response = client.post("/rag", json={"question": question, "max_new_tokens": 5, **fields})
    assert response.status_code == 200, response.text
    return response.json()


def live(app, name="docs", alias="production"):
    state = app.admin("GET", f"/indexes/{name}").json()["live"].get(alias)
    return (state["status"], [target["version"] for target in state["targets"]], state["reason"]) if state else None


@pytest.fixture
def production(app, repository, index):
    """Bring the alias back to the first version afterwards."""
    yield index
    Aliases(repository, "index", "docs").promote("production", index.version)
    wait_for(lambda: live(app)[:2] == ("live", [index.version]), 10)


def test_rag_answers_with_its_sources(client, index):
    response = client.post("/rag", json=QUESTION)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["index"] == {"name": "docs", "version": index.version, "digest": index.digest}
    first = answer["sources"][0]
    assert (first["document"], first["heading"], first["n"]) == ("helm.md", "Install", 1)
    assert 0.2 < first["score"] <= 1
    assert HELM[first["span"][0] : first["span"][1]] == first["text"]
    for citation in answer["citations"]:
        source = answer["sources"][citation["n"] - 1]
        assert citation["text"] in source["text"]


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_each_mode_finds(client, index, mode):
    assert ask(client, "install the operator with helm", mode=mode)["sources"][0]["document"] == "helm.md"


def test_what_is_not_in_the_documents_is_said(client, index):
    answer = ask(client, "Who won the chess championship of 1972?")
    assert (answer["in_documents"], answer["sources"]) == (False, [])


def test_inline_documents_are_answered_from(client, index):
    answer = ask(client, "What is soup made of?", documents=[{"text": "Soup is made of onions.", "id": "soup.md"}])
    assert [source["document"] for source in answer["sources"]] == ["soup.md"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"question": ""}, 400, "question"),
        ({"question": "x", "top_k": 10_000}, 400, "top_k"),
        ({"question": "x", "filters": {"colour": "red"}}, 400, "filters.colour"),
        ({"question": "x", "index": "unknown"}, 404, "unknown"),
        ({"question": "x", "index": "docs@99"}, 404, "no version 99"),
    ],
)
def test_wrong_questions_are_named(client, body, status, words):
    response = client.post("/rag", json=body)
    assert response.status_code == status, response.text
    assert words in response.json()["detail"]


def test_openais_client_embeds(app, index):
    sdk = openai.OpenAI(base_url=f"{app.url}/v1", api_key="none", max_retries=0)
    texts = ["How hot is tea?", "Green tea is made with hot water.", "Install the operator with Helm."]
    found = sdk.embeddings.create(model="all-MiniLM-L6-v2", input=texts).data  # base64 on the way
    question, tea, helm = (entry.embedding for entry in found)
    assert sum(a * b for a, b in zip(question, tea, strict=True)) > sum(
        a * b for a, b in zip(question, helm, strict=True)
    )
    with pytest.raises(openai.BadRequestError, match="reads 254"):
        sdk.embeddings.create(model="all-MiniLM-L6-v2", input="word " * 400)


class Questions:
    """Ask over and over from several threads, and remember every answer."""

    def __init__(self, url, threads=2):
        self._url, self._threads, self._stopping = url, threads, threading.Event()
        self.answers, self.failures = [], []

    def __enter__(self):
        self._pool = ThreadPoolExecutor(self._threads)
        self._running = [self._pool.submit(self._ask) for _ in range(self._threads)]
        return self

    def __exit__(self, *_):
        self._stopping.set()
        for running in self._running:
            running.result()
        self._pool.shutdown()

    def _ask(self):
        with httpx.Client(base_url=self._url, timeout=60) as client:
            while not self._stopping.is_set():
                begun = time.time()
                response = client.post(
                    "/rag", json={"question": "How is a hot drink made?", "max_new_tokens": 2, "top_k": 5}
                )
                if response.status_code == 200:
                    self.answers.append((begun, response.json()))
                else:
                    self.failures.append(response.text)


def finished(app, queued, status="SUCCEEDED"):
    """Return the state of a queued change once its job has ended."""
    assert queued.status_code == 202, queued.text

    def ended():
        state = app.admin("GET", queued.json()["status"].removeprefix("/admin")).json()
        return state if state["status"] in ("SUCCEEDED", "FAILED") else None

    state = wait_for(ended, 120)
    assert state["status"] == status, state["log"]
    return state


def upload(client, name, *files):
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    return client.post(f"/admin/indexes/{name}/documents", files=[("files", file) for file in files], headers=headers)


def test_upserts_and_deletes_under_load(app, client, repository, production):
    first = production.version
    with Questions(app.url) as asking:
        finished(app, upload(client, "docs", ("coffee.md", b"# Coffee\n\nCoffee is a hot drink, made with water.\n")))
        wait_for(lambda: live(app)[:2] == ("live", [first + 1]), 15)
        gone = app.admin("POST", "/indexes/docs/documents/delete", {"documents": ["tea.md", "unknown.md"]})
        assert any("not there: unknown.md" in line for line in finished(app, gone)["log"])
        wait_for(lambda: live(app)[:2] == ("live", [first + 2]), 15)
        swapped = time.time()
        time.sleep(4)
    assert asking.failures == []
    assert len(asking.answers) > 20
    found = {first: {"tea.md"}, first + 1: {"tea.md", "coffee.md"}, first + 2: {"coffee.md"}}
    for begun, answer in asking.answers:
        documents = {source["document"] for source in answer["sources"]}
        assert documents - {"helm.md"} == found[answer["index"]["version"]]
        if begun > swapped + 3:  # the ingress has heard of it by then
            assert answer["index"]["version"] == first + 2
    assert {answer["index"]["version"] for _, answer in asking.answers} == set(found)


def test_uploads_make_an_index_and_say_what_was_not_read(app, client, repository):
    files = [
        ("soup.html", b"<h1>Soup</h1><p>Onion soup takes an hour.</p>"),
        ("faq.csv", b"id,text\n1,Bread is baked for forty minutes.\n"),
        ("bomb.docx", b"PK no zip"),
    ]
    state = finished(app, upload(client, "kitchen", *files), "FAILED")
    assert any("skipped bomb.docx" in line for line in state["log"])
    assert any("1 of the uploaded documents are not in kitchen@1" in line for line in state["log"])
    assert list(repository.store.list_keys("changes/kitchen/")) == []
    answer = ask(client, "How long does bread bake?", index="kitchen")
    assert answer["sources"][0]["document"] == "faq.csv#1"
    listed = app.admin("GET", "/indexes/kitchen/documents").json()
    assert [document["id"] for document in listed["documents"]] == ["faq.csv#1", "soup.html"]


def test_what_is_damaged_or_of_another_model_never_goes_live(app, client, repository, production, tmp_path):
    first = production
    folder = tmp_path / "damaged"
    folder.mkdir()
    for path in fetched_folder(repository, first).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    facts = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(
        json.dumps({**facts, "embedding_model": "e5", "embedding_fingerprint": "0" * 64})
    )
    other = repository.publish("index", "docs", folder, {})
    (folder / "index.json").write_text(json.dumps({**facts, "kind": "hnsw"}))
    damaged = repository.publish("index", "docs", folder, {})
    key = f"indexes/docs/objects/{damaged.digest}/chunks.parquet"
    content = bytearray(repository.store.read(key).content)
    content[50] ^= 1
    repository.store.write(key, bytes(content))
    aliases = Aliases(repository, "index", "docs")
    for version, words in (
        (other, ("'e5' (00000000)", "'all-MiniLM-L6-v2'")),
        (damaged, ("does not match its sha256",)),
    ):
        aliases.promote("production", version.version)
        wait_for(lambda: live(app)[0] == "refused", 10)
        assert all(word in live(app)[2] for word in words), live(app)
        assert ask(client, "install the operator")["index"]["version"] == first.version
        aliases.promote("production", first.version)
        wait_for(lambda: live(app)[0] == "live", 10)


def test_retrieval_is_measured(cluster, index, store, overrides, tmp_path):
    lines = [
        {"question": "How do I install the operator?", "document": "helm.md"},
        {"question": "How hot is the water for green tea?", "text": "water of eighty degrees"},
    ]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    settings = {"index": f"docs@{index.version}", "questions": tmp_path / "questions.jsonl", "output": tmp_path / "out"}
    done = cluster.run("python", "-m", "jobs.evaluate_retrieval", *overrides(**settings))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "hybrid" in done.stdout
    report = json.loads((tmp_path / "out/retrieval.json").read_text())
    assert report["modes"]["hybrid"]["recall"]["1"] == 1.0
    assert (tmp_path / "out/retrieval.png").stat().st_size > 10_000
