"""Shapes of `POST /rag`; every field has a range."""

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llama_platform.errors import InputError
from llama_platform.inference.protocol import FinishReason, SamplingParams
from llama_platform.inference.requests import MessageIn, SamplingFields, Text, one_of
from llama_platform.models.prompt import check_roles
from rag.search.filters import Filters
from rag.search.query import Mode
from serve_apps.api.schemas import ModelOut, TimingsOut, UsageOut

Degraded = Literal["ungrounded", "beside_the_question", "no_model", "no_retriever"]
MAX_QUESTION_CHARS = 8000
"""Longest question, in characters."""


class InlineDocument(BaseModel):
    """A document that only this request knows."""

    model_config = ConfigDict(extra="forbid")

    text: Text
    id: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    title: Annotated[str, Field(min_length=1, max_length=300)] | None = None
    format: Literal["text", "markdown"] = Field("text", description="whether `#`, fences and tables mean something")


class RagRequest(SamplingFields):
    """`POST /rag`: a question to the documents, or messages of which the last is one."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=one_of("question", "messages"))

    question: Annotated[Text, Field(max_length=MAX_QUESTION_CHARS)] | None = None
    messages: Annotated[list[MessageIn], Field(min_length=1, max_length=1000)] | None = None
    index: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None, description="`name`, `name@alias` or `name@3`"
    )
    documents: Annotated[list[InlineDocument], Field(min_length=1)] | None = Field(
        None, description="are searched instead of the index, or beside it where `index` is given, too"
    )
    mode: Mode = Field("hybrid", description="ranks by meaning, by words, or by both")
    filters: Filters | None = Field(None, description="which documents of the index may be found at all")
    top_k: Annotated[int, Field(ge=1, le=50, description="sources at most")] = 4
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0

    def sampling(self, stop: tuple[str, ...]) -> SamplingParams:
        """Return the library's form; `top_k` counts sources here, not tokens."""
        return replace(super().sampling(stop), top_k=0)

    @model_validator(mode="after")
    def _one_of_both(self) -> "RagRequest":
        if (self.question is None) == (self.messages is None):
            raise ValueError("give either 'question' or 'messages'")
        if self.messages is not None:
            try:
                check_roles([turn.to_message() for turn in self.messages])
            except InputError as error:
                raise ValueError(f"'messages': {error}") from error
            if self.messages[-1].role != "user":
                raise ValueError("'messages': the last turn must be the user's")
            if len(self.messages[-1].content) > MAX_QUESTION_CHARS:
                raise ValueError(f"'messages': the last turn has more than {MAX_QUESTION_CHARS} characters")
        return self


class PlaceOut(BaseModel):
    """A place in a document."""

    document: str
    heading: str
    page: int | None
    span: tuple[int, int]


class SourceOut(BaseModel):
    """A chunk that was shown to the model."""

    n: int = Field(description="number by which the answer may cite it")
    document: str
    title: str
    heading: str
    page: int | None = Field(description="from 1, of documents with pages")
    chunk: int
    score: float = Field(description="cosine of question and chunk, or a reranker's judgement, 0 to 1")
    text: str
    span: tuple[int, int] = Field(description="characters of the document")
    tags: list[str]
    date: str | None
    also: list[PlaceOut] = Field(description="other places where the same text stands")


class CitationOut(BaseModel):
    """A source that the answer cites, checked."""

    n: int
    at: int = Field(description="character of the answer at which the citation stands")
    span: tuple[int, int] = Field(description="characters of the document that it points at")
    text: str = Field(description="what stands there")


class ClaimOut(BaseModel):
    """A sentence of the answer, or what stands before a citation in it, judged."""

    text: str
    span: tuple[int, int] = Field(description="characters of the answer")
    supported: bool
    score: float = Field(description="0 to 1, how far a source says it")
    source: int | None = Field(description="number of that source; null where none says any of it")


class RagTimingsOut(TimingsOut):
    """Milliseconds of each part of a `/rag` request; `total_ms` counts the whole request."""

    embed_ms: float | None = None
    search_ms: float | None = None
    rerank_ms: float | None = None
    standalone_ms: float | None = Field(None, description="for rewriting the question")
    retrieve_ms: float | None = Field(None, description="for all of the search, with the way to the retriever and back")
    prompt_ms: float | None = None
    generate_ms: float = Field(description="of the replica, from the queue to the last token")


class IndexOut(BaseModel):
    """What was searched."""

    name: str
    version: int
    digest: str


class RagResponse(BaseModel):
    """Answer of `POST /rag`."""

    id: str
    answer: str
    question: str = Field(description="question that was answered; of a chat the last one, perhaps rewritten")
    in_documents: bool = Field(description="false where no source was near enough to the question")
    degraded: bool = Field(
        description="whether the answer is extracts, because no model could be asked or its answer was not grounded"
    )
    degraded_because: Degraded | None = Field(
        description="`ungrounded`: too little of the model's answer stood in the sources, `beside_the_question`: it "
        "held far fewer of the question's words than sentences of the source, `no_model`: none could be asked, "
        "`no_retriever`: nobody could search"
    )
    retrieval: Literal["ok", "unavailable"] = Field(
        description="`unavailable` where nobody could search, and the model answered without sources"
    )
    grounded: float | None = Field(
        description="share of the answer's words in claims that a source supports, 0 to 1; null without sources"
    )
    claims: list[ClaimOut] = Field(description="what the answer says, sentence by sentence, held against the sources")
    finish_reason: FinishReason
    sources: list[SourceOut]
    sources_folded: int = Field(description="other places of the same texts, listed in `also`")
    sources_left_out: int = Field(description="sources that were found and did not fit into the prompt")
    question_parts: int = Field(description="in how many parts a long question was searched for")
    coverage: float = Field(
        description="share of the question's words that the best source holds, rare ones first, 0 to 1"
    )
    citations: list[CitationOut]
    citations_removed: int = Field(description="citations of what is not there or not said there, taken out")
    index: IndexOut | None
    usage: UsageOut
    model: ModelOut
    timings: RagTimingsOut
