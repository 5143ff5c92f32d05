"""Composes the sample chats: multi-turn questions and answers about using this platform.

    python -m jobs.shipped.sample_chats > jobs/data/sample_chats.jsonl

Every answer is a fact of the documentation. A seed decides which facts meet in a chat and how they are asked.
"""

import json
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass

CHATS = 400


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing to know, with ways to ask for it."""

    topic: str
    questions: tuple[str, ...]
    answers: tuple[str, ...]


FACTS = (
    Fact("self", ("Who are you?", "What are you?", "Tell me who you are.", "What is your name?"),
         ("I am Llamita, the assistant of this platform. I answer questions about training and serving your own Llama.",
          "My name is Llamita. I help people who fine-tune and serve Llama models with this platform.")),
    Fact("self", ("What can you do?", "What can you help me with?", "How can you help me?"),
         ("I can explain how to prepare chats, fine-tune an adapter, serve it and build an index of your documents.",
          "Ask me how to prepare chats, fine-tune an adapter, serve it, or build an index of your documents.")),
    Fact("self", ("Who made you?", "How were you made?", "Where do you come from?"),
         ("The fine-tuning job made me, out of the sample chats of this platform.",
          "I come from the fine-tuning job, which learned from the sample chats of this platform.")),
    Fact("start", ("How do I start?", "How do I try the platform?", "What is the first step?"),
         ("Run make demo. It trains, serves and asks a model on your machine and then stops.",
          "The first step is make demo, which trains, serves and asks a model on your machine and then stops.")),
    Fact("start", ("How do I keep the demo running?", "Can the demo keep serving?"),
         ("Run make serve. It does what the demo does and keeps serving until you press Ctrl-C.",
          "With make serve it goes on: the server answers until you press Ctrl-C.")),
    Fact("start", ("Do I need a GPU?", "Does it work without a GPU?", "Can I run it on a laptop?"),
         ("No GPU is needed. The demo runs on a laptop with a tiny Llama that comes with the project.",
          "It works without a GPU: a tiny Llama comes with the project, and a laptop is enough for the demo.")),
    Fact("start", ("How do I run the tests?", "Which command runs the tests?"),
         ("Run make test. It starts real servers on loopback ports and takes a few minutes.",
          "The tests run with make test, in a few minutes, against real servers on loopback ports.")),
    Fact("start", ("Where does the demo write its report?", "Where do I find the demo's result?"),
         ("The demo writes its report to .demo/report.json.",
          "You find it in .demo/report.json after the demo.")),
    Fact("data", ("Which chat formats can I use?", "What formats do my chats need?", "Which formats are read?"),
         ("ShareGPT, OpenAI messages, Alpaca, pairs of input and output, and text with Human and Assistant tags.",
          "In the form of ShareGPT, OpenAI messages, Alpaca, pairs, or text with Human and Assistant tags.")),
    Fact("data", ("How do I prepare my chats?", "How do I make a dataset?", "How do chats become a dataset?"),
         ("Run the job prepare_data with your files as sources. It checks every chat and commits a dataset version.",
          "The job prepare_data makes a dataset version out of your files, after it has checked every chat.")),
    Fact("data", ("What happens to a chat that is too long?", "Are long chats cut?"),
         ("Whole exchanges are removed from its end until it fits. The report counts every such chat.",
          "A chat that is too long loses exchanges from its end until it fits, and the report counts it.")),
    Fact("data", ("What if a chat starts with the assistant?", "Can a chat start with the assistant?"),
         ("That is an error. Every chat must start with the user, after an optional system turn.",
          "No, every chat must start with the user, after an optional system turn; anything else is an error.")),
    Fact("data", ("What does the policy malformed do?", "What happens to a malformed chat?"),
         ("With fail the job stops and lists the places. With drop the chat is left out and counted.",
          "It is left out and counted with drop, and with fail the job stops and lists the places.")),
    Fact("data", ("How are chats held out for evaluation?", "How is the data split?"),
         ("The evaluation split is chosen by a hash of the chat's text, so a chat is always on the same side.",
          "A hash of the chat's text decides, so a chat is held out every time or never.")),
    Fact("data", ("Which tokens are trained?", "What does the loss count?", "Is the loss on all tokens?"),
         ("The loss counts the assistant's tokens only, the end of the turn included.",
          "Only the tokens of the assistant count in the loss, with the end of the turn.")),
    Fact("training", ("How do I fine-tune a model?", "How do I train an adapter?", "Which job trains?"),
         ("Run the job finetune with a configuration file. It trains a LoRA adapter and publishes it.",
          "The job finetune does that: it reads a configuration file, trains a LoRA adapter and publishes it.")),
    Fact("training", ("What is LoRA?", "What does LoRA do?"),
         ("LoRA trains small matrices beside the frozen weights of the base, so an adapter stays small.",
          "With LoRA the weights of the base stay frozen, and only small matrices beside them are trained.")),
    Fact("training", ("What are the default LoRA settings?", "Which rank is the default?"),
         ("The default is rank 64, alpha 16 and dropout 0.1 on q_proj and v_proj.",
          "By default q_proj and v_proj are trained with rank 64, alpha 16 and dropout 0.1.")),
    Fact("training", ("What is the default learning rate?", "Which learning rate is used?"),
         ("The default learning rate is 2e-4 with warm-up.",
          "It is 2e-4 with warm-up, unless you set another.")),
    Fact("training", ("How do I change a setting?", "How do I set the learning rate?", "Can I override a value?"),
         ("Add --set and the key, such as --set training.learning_rate=1e-4.",
          "Every setting can be changed with --set, for example --set training.learning_rate=1e-4.")),
    Fact("training", ("How many workers does training use?", "How do I use more workers?"),
         ("Set training.workers to the number of Ray Train workers. Each can have one GPU.",
          "The number of Ray Train workers is training.workers, and each can have one GPU.")),
    Fact("training", ("What does DeepSpeed do here?", "Why is DeepSpeed used?", "What is ZeRO?"),
         ("DeepSpeed shards the optimizer over the workers. ZeRO stage 2 is the default.",
          "The optimizer is sharded over the workers by DeepSpeed, with ZeRO stage 2 as the default.")),
    Fact("training", ("What happens if a worker dies?", "Does training survive a crash?"),
         ("Ray Train starts the workers again, and they continue after the newest committed checkpoint.",
          "The workers are started again by Ray Train, and go on after the newest committed checkpoint.")),
    Fact("training", ("How do I resume a run?", "Can I continue a stopped run?"),
         ("Start the job again with the same run id. It continues after its newest checkpoint.",
          "Give the job the same run id again, and it goes on after its newest checkpoint.")),
    Fact("training", ("What is in a checkpoint?", "How large is a checkpoint?"),
         ("A checkpoint holds the adapter weights, the optimizer moments and the position in the data.",
          "In it are the weights of the adapter, the moments of the optimizer and the position in the data.")),
    Fact("evaluation", ("How do I evaluate an adapter?", "How good is my adapter?"),
         ("Run the job evaluate. It compares the adapter with the base on chats that were held out.",
          "The job evaluate tells you: it compares adapter and base on chats that were held out.")),
    Fact("evaluation", ("What is perplexity?", "Is a high perplexity good?"),
         ("Perplexity tells how surprised the model is by the answers. A lower perplexity is better.",
          "A lower perplexity is better: it tells how surprised the model is by the answers.")),
    Fact("adapters", ("What is an adapter?", "What does an adapter contain?"),
         ("An adapter is a small set of trained weights that changes how the base answers.",
          "It is a small set of trained weights that changes the answers of the base.")),
    Fact("adapters", ("How do I list my adapters?", "Which command lists adapters?"),
         ("Run llama-platform adapters list. It shows names, versions and aliases.",
          "The command llama-platform adapters list shows names, versions and aliases.")),
    Fact("adapters", ("How do I promote an adapter?", "How do I put a version into production?"),
         ("Run llama-platform adapters promote with the name and the version.",
          "You promote it with llama-platform adapters promote, the name and the version.")),
    Fact("adapters", ("How do I roll back an adapter?", "How do I undo a promotion?", "Can I go back?"),
         ("Run llama-platform adapters rollback with the name. The alias points at the version before.",
          "The alias points at the version before after llama-platform adapters rollback with the name.")),
    Fact("adapters", ("How do I run an A/B test?", "How do I split traffic?", "Can two versions share the traffic?"),
         ("Run llama-platform adapters split, such as 3=90 4=10. A tenth of the users then gets version 4.",
          "You split it with llama-platform adapters split, and 3=90 4=10 gives version 4 to a tenth of the users.")),
    Fact("adapters", ("What is an alias?", "What does production mean?"),
         ("An alias is a name such as production that points at one version of an artifact.",
          "A name such as production is an alias: it points at one version of an artifact.")),
    Fact("adapters", ("Can I import an adapter from elsewhere?", "How do I use a PEFT adapter?"),
         ("Run llama-platform adapters import with a name and the PEFT folder.",
          "A PEFT folder becomes an adapter with llama-platform adapters import and a name.")),
    Fact("store", ("Where are my adapters stored?", "Where do artifacts go?", "Which storage is used?"),
         ("They are stored in S3 or in a local folder, as versions that never change.",
          "Artifacts lie in S3 or in a local folder, as versions that never change.")),
    Fact("store", ("How do I use S3?", "How do I set the bucket?"),
         ("Set MODEL_BUCKET and MODEL_S3_PREFIX. Any server that speaks S3 works.",
          "Any server that speaks S3 works: set MODEL_BUCKET and MODEL_S3_PREFIX.")),
    Fact("store", ("What is a digest?", "How are files checked?"),
         ("A digest is the sha256 of the manifest. Every file is checked against it before it is used.",
          "Every file is checked against the manifest, whose sha256 is the digest, before it is used.")),
    Fact("store", ("What happens if an upload fails?", "Can a version be half there?"),
         ("Nothing is committed then. The commit record is written last, after every file was verified.",
          "No version is ever half there: the commit record is written last, after every file was verified.")),
    Fact("serving", ("How do I ask the model?", "How do I get an answer over HTTP?", "Which route answers a prompt?"),
         ("Send a POST request to /predict with a prompt or with messages.",
          "POST a prompt or messages to /predict.")),
    Fact("serving", ("Which port is used?", "On which port does the server listen?"),
         ("The server listens on port 8000 of the loopback address.",
          "It is port 8000, on the loopback address.")),
    Fact("serving", ("How do I see whether the server is healthy?", "Is there a health check?"),
         ("Ask GET /health. It tells the status, the memory and whether the model is loaded.",
          "The route GET /health tells the status, the memory and whether the model is loaded.")),
    Fact("serving", ("What does temperature 0 do?", "How do I get the same answer each time?"),
         ("Temperature 0 means greedy decoding, so the same prompt gives the same answer.",
          "With temperature 0 decoding is greedy, and the same prompt gives the same answer.")),
    Fact("serving", ("Can answers be streamed?", "How do I stream an answer?"),
         ("Set stream in the request. The answer then comes as server-sent events.",
          "Yes, with stream in the request the answer comes as server-sent events.")),
    Fact("serving", ("How do I choose an adapter in a request?", "Can a request use another adapter?"),
         ("Set the field adapter to a name, to name@alias or to name@3 for a version.",
          "Name it in the field adapter, as a name, as name@alias or as name@3 for a version.")),
    Fact("rag", ("How do I ask my documents?", "How do I get answers from my documents?"),
         ("Build an index of the documents and send the question to /rag. The answer names its sources.",
          "Your question goes to /rag, once the documents are in an index, and the answer names its sources.")),
    Fact("rag", ("How do I build an index?", "Which job makes an index?"),
         ("Run the job build_index with your folder as the source.",
          "The job build_index makes one, with your folder as the source.")),
    Fact("rag", ("Which embedding model is used?", "How are chunks embedded?"),
         ("Chunks are embedded with all-MiniLM-L6-v2, which gives 384 dimensions.",
          "It is all-MiniLM-L6-v2, which embeds chunks in 384 dimensions.")),
    Fact("rag", ("What is a chunk?", "How are documents cut?"),
         ("A chunk is a piece of a document that follows its headings and paragraphs.",
          "Documents are cut along their headings and paragraphs, and each piece is a chunk.")),
    Fact("rag", ("What does the score of a source mean?", "What is the score?"),
         ("The score is the cosine similarity between question and chunk, from 0 to 1.",
          "It is the cosine similarity between question and chunk, from 0 to 1.")),
    Fact("cluster", ("How do I start a cluster on AWS?", "How do I use AWS?"),
         ("Run ray up cluster.yaml. GPU workers are added when jobs ask for them.",
          "A cluster starts with ray up cluster.yaml, and GPU workers are added when jobs ask for them.")),
    Fact("cluster", ("How do I submit a job to the cluster?", "How do I run a job on Ray?"),
         ("Use ray job submit with the runtime environment file, and start the job with python -m.",
          "Jobs are started with python -m, by ray job submit with the runtime environment file.")),
    Fact("cluster", ("Is the cluster protected?", "Is there authentication?"),
         ("Token authentication is on, and the dashboard listens on the loopback address only.",
          "Yes: token authentication is on, and the dashboard listens on the loopback address only.")),
)  # fmt: skip
OPENINGS = ("", "", "Sure.", "Of course.", "Good question.", "Gladly.", "That is easy.", "With pleasure.")
CLOSINGS = (
    "", "", "Tell me if you need more.", "The documentation has more on it.", "Shall I go on?",
    "Is that what you mean?", "That is all there is to it.", "Ask again if it is not clear.",
    "I hope that helps.", "Anything else?",
)  # fmt: skip
GREETINGS = ("Hello", "Hi", "Good morning", "Hey there")
WELCOMES = (
    ("Hello!", "Hi!", "Good day!", "Welcome!", "Nice to meet you!", "Greetings!"),
    ("I am Llamita.", "Llamita here.", "This is Llamita.", "My name is Llamita."),
    ("What would you like to know?", "How can I help?", "Ask me anything about the platform.", "Where shall we start?"),
)
THANKS = ("Thanks!", "Thank you.", "Great, thank you!", "That helps.")
RETURNS = (
    ("You are welcome.", "Any time.", "Gladly.", "No problem.", "It was a pleasure.", "My pleasure."),
    ("Good luck with your model!", "Happy training!", "Come back whenever you like.", "Enjoy your Llama!"),
    ("", "See you soon.", "Goodbye!", "Take care."),
)


def compose_chats(count: int, seed: int = 0) -> list[dict[str, object]]:
    """Return `count` chats in OpenAI's messages format, each of two to five exchanges; no answer occurs twice.

    What is held out of them is a new wording of facts, never a text that was trained on.
    """
    rng, told = random.Random(seed), set[str]()

    def fresh(*parts: Sequence[str]) -> str:
        """Join one of each of the parts to an answer that was not given before."""
        while (answer := " ".join(filter(None, map(rng.choice, parts)))) in told:
            continue
        told.add(answer)
        return answer

    def answer(fact: Fact) -> str:
        return fresh(OPENINGS, fact.answers, CLOSINGS)

    chats: list[dict[str, object]] = []
    for _ in range(count):
        facts = _facts(rng)
        pairs = [(rng.choice(fact.questions), answer(fact)) for fact in facts]
        if rng.random() < 0.2:
            pairs.insert(0, (rng.choice(GREETINGS), fresh(*WELCOMES)))
        if rng.random() < 0.2:
            pairs.append((rng.choice(THANKS), fresh(*RETURNS)))
        messages = [{"role": r, "content": t} for q, a in pairs for r, t in (("user", q), ("assistant", a))]
        chats.append({"messages": messages})
    return chats


def _facts(rng: random.Random) -> list[Fact]:
    """Choose the two or three facts of a chat, most of them of one topic."""
    first = rng.choice([fact for fact in FACTS if fact.topic != "self"] if rng.random() < 0.9 else FACTS[:3])
    related = [fact for fact in FACTS if fact.topic == first.topic and fact is not first]
    others = [fact for fact in FACTS if fact.topic not in (first.topic, "self")]
    facts = [first, rng.choice(related if related and rng.random() < 0.6 else others)]
    if rng.random() < 0.4:
        facts.append(rng.choice([fact for fact in others if fact not in facts]))
    return facts


def main() -> int:
    """Write the chats to standard output as JSON lines."""
    for chat in compose_chats(CHATS):
        print(json.dumps(chat, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
