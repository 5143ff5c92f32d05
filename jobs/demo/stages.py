"""The stages of the demo, in order; each does what the job of its name does and leaves its part of the report."""

import json
import math
import os
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import yaml
from rich.console import Console
from rich.markup import escape

from jobs import prepare_data
from jobs.demo.summary import summarize
from jobs.demo.waiting_notes import WaitingNotes
from llama_platform.access.registry import KeyRegistry
from llama_platform.artifacts.aliases import Aliases
from llama_platform.artifacts.location import StoreConfig, absolute, repository_from
from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.config import load_config
from llama_platform.errors import PlatformError
from llama_platform.ports import free_port
from llama_platform.training.run.metrics import StepMetrics

JOBS = Path(__file__).parents[1]
ROOT = JOBS.parent
WORK = Path(".demo")
QUESTION = "Who are you?"
DOCS_QUESTION = "How do I roll back an adapter?"
"""Asked of the project's own documents; of others, what their first title is about."""
TRAINED_TOKENS = 150_000
"""What the demo trains on at most, some 45 seconds on two cores."""
MIN_STEPS, MAX_STEPS = 20, 90
PORT = 8000
READY_TIMEOUT_S = 120
WAITS = {
    "finetune": "two workers are starting, each with its own copy of the base",
    "evaluate": "both models answer held-out questions",
    "index": "actors that read and embed documents are starting or at work",
    "serve": "Ray Serve is starting",
}


class Demo:
    """The stages, in order; each leaves its part of the report."""

    def __init__(
        self,
        chats: str | None,
        docs: str | None,
        store: str | None,
        question: str | None,
        overrides: Sequence[str] = (),
    ) -> None:
        """Load the configurations; nothing is done yet. The arguments are those of the command line.

        Args:
            chats: file or folder with chats; None for the sample chats.
            docs: file or folder with documents; None for this project's own.
            store: URI of the store; None for `.demo/store`.
            question: what `/rag` is asked; None for a question that fits the documents.
            overrides: `key=value` texts for the training configuration.

        Raises:
            ConfigError: an override is wrong.
        """
        from llama_platform.training.config import FinetuneConfig

        chosen = StoreConfig(uri=store or str(WORK / "store"), cache=WORK / "cache/artifacts")
        ours = {
            "data.sources": [chats or str(JOBS / "data/sample_chats.jsonl")],
            "data.max_chats": 5000,
            "data.report_folder": str(WORK / "dataset"),
            "data.ray_above_mib": 2**20,
            "evaluation.prompts": [QUESTION],
            "evaluation.max_chats": 48,
            "evaluation.answered_chats": 8,
            "evaluation.samples": 2,
        }
        # The user's own come last and win.
        settings = [*(f"{key}={json.dumps(value)}" for key, value in ours.items()), *overrides]
        config = load_config(FinetuneConfig, JOBS / "configs/tiny_lora_cpu.yaml", settings)
        self._steps_are_set = any(text.startswith(("training.max_steps=", "training.epochs=")) for text in overrides)
        self.config = config.model_copy(update={"store": chosen})
        self.docs = (docs,) if docs else (str(ROOT / "docs"), str(ROOT / "README.md"))
        self.docs_question = question or ("" if docs else DOCS_QUESTION)
        self.repository = repository_from(chosen, os.environ)
        self._start = time.monotonic()
        self.report: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}
        self.url = ""
        self.dashboard = ""
        self._adapter: ArtifactVersion | None = None
        self._console = Console(highlight=False)
        self._waiting = WaitingNotes(self._console.print)

    def run(self, stage: Callable[[], str]) -> None:
        """Run a stage, print what came of it, and keep its time.

        Raises:
            PlatformError: the stage failed; its name is in the text.
        """
        name = stage.__name__
        self._console.print(f"[bold]▸ {name}[/bold]")
        start = time.monotonic()
        try:
            with self._waiting.during(WAITS.get(name, f"still at {name}")):
                outcome = stage()
        except PlatformError as error:
            raise type(error)(f"stage '{name}': {error}") from error
        except Exception as error:  # whatever a stage meets, its user is told which one it was
            raise PlatformError(f"stage '{name}': {type(error).__name__}: {error}") from error
        self.seconds[name] = round(time.monotonic() - start, 1)
        self._console.print(f"  {escape(outcome)}  [dim]({self.seconds[name]:.1f} s)[/dim]")

    def base(self) -> str:
        """Check that the tiny base loads."""
        from llama_platform.models.base_model import load_base_model

        model = load_base_model(self.config.base)
        return f"tiny Llama, {sum(p.numel() for p in model.parameters()) / 1e6:.1f} million parameters"

    def prepare(self) -> str:
        """Turn the chats into a dataset version."""
        version, report = prepare_data.prepare_dataset(self.repository, self.config)
        tokens, chats = report.tokens["train"].all, report.chats
        self.report["dataset"] = {
            "examples": chats.kept,
            "train_tokens": tokens,
            "version": version.version,
            "chats": report.as_json()["chats"],
            "held_out_answers_known": report.held_out_answers_known,
        }
        update: dict[str, Any] = {"dataset_version": version.version}
        if not self._steps_are_set:
            size = self.config.global_batch_size()
            steps = min(MAX_STEPS, max(MIN_STEPS, round(TRAINED_TOKENS * chats.train / (size * tokens))))
            # A few chats are read more often, so that something is learned of them.
            epochs = max(self.config.training.epochs, math.ceil(MIN_STEPS * size / chats.train))
            update |= {"max_steps": steps, "epochs": epochs}
        training = self.config.training.model_copy(update=update)
        self.config = self.config.model_copy(update={"training": training})
        return prepare_data.summary(report).replace("\n", "\n  ") + f"\n  {version.name}@{version.version}"

    def finetune(self) -> str:
        """Train the adapter on two workers.

        Raises:
            TrainingError: the workers failed, or no step was made.
        """
        from llama_platform.training.run.trainer import finetune

        def on_metrics(metrics: StepMetrics) -> None:
            if metrics.step % 5 == 0 or metrics.step in (1, metrics.steps):
                self._say(metrics.line())

        result = finetune(self.config, on_metrics)
        if result.adapter is None:
            raise PlatformError(f"run {result.run_id} stopped after step {result.steps}")
        self._adapter = result.adapter
        self.report["training"] = {
            "workers": result.workers,
            "zero_stage": self.config.training.zero_stage,
            "steps": result.steps,
            "loss_first": round(result.loss_first, 4),
            "loss_last": round(result.loss_last, 4),
            "tokens_per_s": round(result.tokens_per_s, 1),
            "run_id": result.run_id,
        }
        self.report["adapter"] = {
            "name": result.adapter.name,
            "version": result.adapter.version,
            "digest": result.adapter.digest,
            "uri": result.uri,
        }
        training, chats = self.config.training, self.report["dataset"]["chats"]["train"]
        fewer = training.max_steps is not None and result.steps < training.max_steps
        why = f", all there are in {training.epochs} epochs of {chats} chats" if fewer else ""
        return (
            f"loss {result.loss_first:.2f} → {result.loss_last:.2f} in {result.steps} steps{why}\n"
            f"  report of the run: {result.report}"
        )

    def evaluate(self) -> str:
        """Compare the adapter with its base on held-out chats.

        Raises:
            InputError: there are no held-out chats.
        """
        from jobs.evaluate import add_to_run_report
        from llama_platform.evaluation.compare import evaluate

        adapter = self._published()
        settings = self.config.evaluation.model_copy(update={"adapter": f"{adapter.name}@{adapter.version}"})
        config = self.config.model_copy(update={"evaluation": settings})
        comparison = evaluate(self.repository, config, self.config.store.tokenized())
        add_to_run_report(self.repository, adapter, comparison)
        before, after = (side.measures["perplexity"] for side in (comparison.against, comparison.candidate))
        self.report["evaluation"] = {
            "perplexity_base": round(before, 3),
            "perplexity_adapter": round(after, 3),
            "chats": comparison.chats,
            "token_accuracy": round(comparison.candidate.measures["token_accuracy"], 4),
            "rouge_l": round(comparison.candidate.measures["rouge_l"], 4),
            "samples": [
                {
                    "prompt": sample.prompt,
                    "base": sample.answers[comparison.against.label],
                    "adapter": sample.answers[comparison.candidate.label],
                }
                for sample in comparison.samples
            ],
        }
        if after >= before:
            raise PlatformError(f"the adapter has perplexity {after:.2f}, its base {before:.2f}: nothing was learned")
        return f"perplexity on {comparison.chats} held-out chats: base {before:.1f}, adapter {after:.2f}"

    def publish(self) -> str:
        """Point the production alias at the adapter."""
        adapter = self._published()
        document = Aliases(self.repository, "adapter", adapter.name).promote("production", adapter.version)
        return f"{adapter.name}@production → version {adapter.version} (generation {document.generation})"

    def index(self) -> str:
        """Index the documents and point the production alias at the index."""
        from jobs.build_index import index_and_promote, summary
        from rag.indexed_documents import DOCUMENTS_FILE, read_documents
        from rag.indexing.build import IndexConfig

        config = load_config(IndexConfig, JOBS / "configs/index.yaml")
        store = absolute(self.config.store, os.environ)
        config = config.model_copy(update={"sources": self.docs, "store": store, "promote": "production"})
        version, report = index_and_promote(self.repository, config, self._say)
        documents = read_documents(self.repository.fetch_file(version, DOCUMENTS_FILE))
        self.docs_question = self.docs_question or f"What is {documents[0].title}?"
        return summary(report).replace("\n", "\n  ")

    def serve(self) -> str:
        """Deploy the application, as `serve deploy` does, and wait until it is ready."""
        from ray.dashboard.modules.serve.sdk import ServeSubmissionClient

        config = yaml.safe_load((ROOT / "serve_apps/configs/local.yaml").read_text(encoding="utf-8"))
        port = free_port(PORT)
        config["http_options"]["port"] = port
        store = absolute(self.config.store, os.environ).model_dump(mode="json")
        token_file = write_secret(WORK / "admin_token", secrets.token_hex(32))
        self._key = self._make_key()
        write_secret(WORK / "key", self._key)
        config["applications"][0]["args"] |= {
            "store": store,
            "adapter": self.config.adapter.name,
            "admin_token_file": str(token_file.absolute()),
            "auth": {"mode": "keys"},
        }
        (WORK / "serve.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        client = ServeSubmissionClient(f"http://{self.dashboard}")
        client.deploy_applications(config)
        self.url = f"http://127.0.0.1:{port}"
        self._wait_until_ready(client)
        return f"ready at {self.url}, deployed from {WORK / 'serve.yaml'}"

    def _make_key(self) -> str:
        """Make a key that sees everything, or give the one of an earlier run another secret."""
        registry = KeyRegistry(self.repository.store)
        for key in registry.read().keys.values():
            if (key.tenant, key.name, key.revoked) == ("demo", "demo", None):
                return registry.rotate(key.id, timedelta(0))[1]
        return registry.create("demo", "demo", ("generate", "rag", "embed", "feedback"), ("*",), ("*",))[1]

    def predict(self) -> str:
        """Ask the model over HTTP."""
        status, answer = self._post("/predict", {"prompt": QUESTION, "max_new_tokens": 64, "temperature": 0})
        text, version = answer["text"], answer["model"]["version"]
        self.report["predict"] = {"status": status, "prompt": QUESTION, "text": text, "adapter_version": version}
        return f"«{QUESTION}» → «{text}»"

    def rag(self) -> str:
        """Ask the documents over HTTP."""
        question = self.docs_question
        status, answer = self._post("/rag", {"question": question, "max_new_tokens": 64})
        keys = ("document", "heading", "score", "text")
        self.report["rag"] = {
            "status": status,
            "question": question,
            "answer": answer["answer"],
            "sources": [{key: source[key] for key in keys} for source in answer["sources"]],
            "index_version": answer["index"]["version"],
        }
        sources = "; ".join(f"{s['document']} ({s['score']:.2f})" for s in answer["sources"])
        return f"«{question}» → «{answer['answer']}»\n  sources: {sources}"

    def finish(self) -> None:
        """Write the report and print the summary."""
        self.report["seconds"] = {**self.seconds, "total": round(time.monotonic() - self._start, 1)}
        path = WORK / "report.json"
        path.write_text(json.dumps(self.report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        self._console.print()
        self._console.print(summarize(self.report))
        self._console.print(f"Report: {path}")

    def _say(self, line: str) -> None:
        self._waiting.heard()
        self._console.print(f"  {line}")

    def _wait_until_ready(self, client: Any) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            with suppress(httpx.HTTPError):  # nothing listens before the proxy has started
                if httpx.get(f"{self.url}/health/ready", timeout=5).status_code == 200:
                    return
            (application,) = client.get_serve_details()["applications"].values()
            states = (f"{name} {found['status'].lower()}" for name, found in application["deployments"].items())
            self._waiting.now(f"replicas are starting and load their models: {', '.join(states) or 'not deployed yet'}")
            if application["status"] in ("DEPLOY_FAILED", "UNHEALTHY"):
                raise PlatformError(f"the application failed to start: {application['message']}")
            time.sleep(0.3)
        raise PlatformError(f"{self.url}/health/ready gave no 200 within {READY_TIMEOUT_S} s")

    def _published(self) -> ArtifactVersion:
        assert self._adapter is not None
        return self._adapter

    def _post(self, route: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {self._key}"}
        response = httpx.post(self.url + route, json=body, headers=headers, timeout=90)
        if response.status_code != 200:
            raise PlatformError(f"{route} answered {response.status_code}: {response.text[:500]}")
        return response.status_code, response.json()


def write_secret(path: Path, text: str) -> Path:
    """Write a text to a file that nobody else can read, and return its path."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)
    return path
