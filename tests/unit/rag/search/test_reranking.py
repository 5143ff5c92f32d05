import pytest

from llama_platform.errors import InputError
from rag.embedding_model import OFFLINE_MODEL, EmbeddingModel
from rag.search.reranking import CrossEncoderReranker


@pytest.fixture(scope="module")
def make_model(tmp_path_factory):
    """Write a cross-encoder of random weights with the offline model's tokenizer."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    def make(labels):
        folder = tmp_path_factory.mktemp("reranker")
        tokenizer = AutoTokenizer.from_pretrained(EmbeddingModel(OFFLINE_MODEL).folder)
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
            num_labels=labels,
        )  # fmt: skip
        BertForSequenceClassification(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return str(folder)

    return make


def test_question_and_text_are_judged_together_from_0_to_1(make_model):
    reranker = CrossEncoderReranker(make_model(1))
    scores = reranker.scores("How hot is tea?", ["Tea is hot.", "Coffee."])
    assert len(scores) == 2
    assert all(0 < score < 1 for score in scores)
    assert scores[0] != scores[1]
    assert reranker.scores("How hot is coffee?", ["Tea is hot."])[0] != scores[0]


def test_tokens_are_counted_and_longer_texts_refused(make_model):
    reranker = CrossEncoderReranker(make_model(1))
    assert reranker.count_tokens("How hot is tea?", ["Tea is hot.", "Tea is hot."]) == 2 * (5 + 4 + 3)
    with pytest.raises(InputError, match=r"documents\.1: .* reads 512"):
        reranker.count_tokens("tea", ["hot", "hot " * 600])


def test_a_classifier_of_many_labels_is_no_judge(make_model):
    with pytest.raises(InputError, match="3 outputs instead of one"):
        CrossEncoderReranker(make_model(3))


def test_an_unknown_model_is_named():
    with pytest.raises(InputError, match="no-such"):
        CrossEncoderReranker("/no-such")
