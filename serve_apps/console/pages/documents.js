import { ask, send, stream } from "../lib/api.js";
import { act, field, h, number, replace, table, tile } from "../lib/dom.js";

const PAGE = 50;

export async function page(me) {
  const writes = me.administers === "writes", reads = me.administers !== "nothing";
  const parts = [];
  const asking = me.scopes.includes("rag") ? question(me) : null;
  if (asking) parts.push(asking.content);
  const lists = reads ? await indexes(me, writes) : null;
  if (lists) parts.push(lists.content);
  return { content: h("div", {}, parts), leave: () => { asking?.leave(); lists?.leave(); } };
}

function question(me) {
  const [label, text] = field("Your question", (id) => h("input", { id, size: "60" }));
  const [indexLabel, index] = field("Index", (id) => h("input", { id, value: me.offers.index ?? "", placeholder: "name, name@alias or name@version" }));
  const [modeLabel, mode] = field("Search", (id) => h("select", { id }, ["hybrid", "dense", "lexical"].map((name) => h("option", { value: name }, { hybrid: "by meaning and words", dense: "by meaning", lexical: "by words" }[name]))));
  const [countLabel, count] = field("Sources", (id) => h("input", { id, type: "number", min: "1", max: "50", value: "4" }));
  const [tagsLabel, tags] = field("Only documents with these tags (commas between)", (id) => h("input", { id }));
  const problem = h("p", { class: "problem", role: "alert" });
  const answer = h("div", { "aria-live": "polite", "aria-busy": "false" });
  let running = null;
  const sources = h("div", {});
  const button = h("button", { type: "submit" }, "Ask");
  const form = h("form", { onsubmit: (event) => { event.preventDefault(); act(button, problem, go); } },
    label, text, h("div", { class: "row" }, h("div", {}, indexLabel, index), h("div", {}, modeLabel, mode), h("div", {}, countLabel, count)), tagsLabel, tags, h("p", {}, button));

  async function go() {
    replace(answer);
    replace(sources);
    const wanted = tags.value.split(",").map((tag) => tag.trim()).filter(Boolean);
    const json = { question: text.value.trim(), mode: mode.value, top_k: count.valueAsNumber || 4, stream: true };
    if (index.value.trim()) json.index = index.value.trim();
    if (wanted.length) json.filters = { tags: wanted };
    let said = "", found = [];
    running?.abort();
    running = new AbortController();
    answer.setAttribute("aria-busy", "true");
    try {
      await follow();
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    } finally {
      answer.setAttribute("aria-busy", "false");
    }

    async function follow() {
    for await (const { event, data } of stream("/rag", { json, signal: running.signal }, (one) => one.event === "done" || one.event === "error")) {
      const value = JSON.parse(data);
      if (event === "error") throw new Error(value.detail ?? "the answer has failed");
      if (event === "sources") { found = value.sources ?? []; show(said, null, found); }
      if (event === "token") { said += value.text; words(said, null); }
      if (event === "done") show(said, value, value.sources ?? found);
    }
    }
  }

  function words(said, whole) {
    const claims = whole?.claims ?? [];
    replace(answer, h("div", { class: "turn" }, h("p", {}, marked(said, claims)), whole ? h("p", { class: "facts" }, verdict(whole)) : null));
  }

  function show(said, whole, found) {
    const claims = whole?.claims ?? [];
    words(said, whole);
    const cited = new Set([...said.matchAll(/\[(\d+)\]/g)].map((match) => Number(match[1])));
    replace(sources, found.length ? h("h2", {}, "Sources") : null, found.map((source) => {
      const said_of = claims.filter((claim) => claim.source === source.n && claim.supported).map((claim) => claim.text);
      return h("div", { class: cited.has(source.n) ? "source cited" : "source" },
        h("b", {}, `[${source.n}] ${source.title || source.document}`), " ",
        h("span", { class: "facts" }, [source.document, source.heading, source.page ? `page ${source.page}` : "", `score ${number(source.score, 3)}`].filter(Boolean).join(" · ")),
        h("p", {}, lit(source.text, said_of)));
    }));
  }

  return { content: h("section", { class: "card", "aria-label": "Ask" }, form, problem, answer, sources), leave: () => running?.abort() };
}

function verdict(whole) {
  const parts = [];
  if (whole.retrieval === "unavailable") return "The documents cannot be searched now: the model answered without them.";
  if (!whole.in_documents) parts.push("not in the documents");
  if (whole.grounded !== null && whole.grounded !== undefined) parts.push(`${number(100 * whole.grounded)} % stands in the sources`);
  if (whole.degraded_because) parts.push(`extract: ${whole.degraded_because.replaceAll("_", " ")}`);
  if (whole.finish_reason && whole.finish_reason !== "stop") parts.push(whole.finish_reason === "length" ? "cut at its length" : whole.finish_reason.replaceAll("_", " "));
  if (whole.sources_left_out) parts.push(`sources that did not fit: ${number(whole.sources_left_out)}`);
  return parts.join(" · ");
}

// The answer, with what its sources do not support underlined.
function marked(said, claims) {
  const nodes = [];
  let last = 0;
  for (const claim of claims) {
    const at = said.indexOf(claim.text, last);
    if (at < 0) continue;
    nodes.push(said.slice(last, at), claim.supported ? claim.text : h("span", { class: "unsupported", title: "The sources do not say this" }, claim.text));
    last = at + claim.text.length;
  }
  nodes.push(said.slice(last));
  return nodes;
}

// A source's text with the sentence lit that has most words in common with what was said of it.
function lit(text, said) {
  const words = (one) => new Set(one.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []);
  const sentences = text.split(/(?<=[.!?])\s+|\n+/).filter((one) => one.trim());
  const chosen = new Set(said.map((claim) => {
    const wanted = words(claim);
    const shared = sentences.map((sentence) => [...words(sentence)].filter((word) => wanted.has(word)).length);
    return sentences[shared.indexOf(Math.max(...shared))];
  }));
  const nodes = [];
  let last = 0;
  for (const sentence of sentences) {
    const at = text.indexOf(sentence, last);
    nodes.push(text.slice(last, at), chosen.has(sentence) ? h("mark", {}, sentence) : sentence);
    last = at + sentence.length;
  }
  return [...nodes, text.slice(last)];
}

async function indexes(me, writes) {
  const list = h("div", {}), problem = h("p", { class: "problem", role: "alert" });
  let left = false;

  async function draw() {
    const found = await ask("/admin/indexes");
    replace(list, found.length ? found.map((index) => one(index)) : h("p", {}, "There is no index yet: upload documents, and the first is made."));
  }

  function one(index) {
    const live = index.live?.production;
    const documents = h("div", {});
    const pointed = index.aliases?.production?.map((target) => target.version) ?? [];
    const answering = live?.targets.map((target) => target.version) ?? [];
    const change = (path, json) => async (event) => act(event.target, problem, async () => {
      await ask(`/admin/indexes/${index.name}/${path}`, { method: "POST", json: { ...json, expected_generation: index.generation } });
      await draw();
      if (!left) setTimeout(() => { if (!left) draw().catch(() => {}); }, 2500);  // until replicas have followed
    });
    const [label, version] = field("Version", (id) => h("select", { id }, index.all_versions.slice().reverse().map((n) => h("option", { value: String(n) }, String(n)))));
    return h("section", { class: "card", "aria-label": index.name }, h("h2", {}, index.name),
      h("div", { class: "tiles" }, tile(answering.map((n) => `v${n}`).join(", ") || "none", String(answering) === String(pointed) ? "answers as production" : `answers; v${pointed.join(", v") || " –"} is being loaded`), tile(String(index.all_versions.length), "versions")),
      live?.reason ? h("p", { class: "problem" }, live.reason) : null,
      writes ? h("div", { class: "row" }, h("div", {}, label, version),
        h("button", { type: "button", onclick: (event) => change("promote", { version: Number(version.value) })(event) }, "Promote"),
        h("button", { type: "button", class: "quiet", onclick: change("rollback", {}) }, "Roll back")) : null,
      h("p", {}, h("button", { type: "button", class: "quiet", onclick: (event) => act(event.target, problem, () => documentsOf(index.name, documents, 0, version.value)) }, "Show documents")), documents);
  }

  async function documentsOf(name, place, start, version) {
    const found = await ask(`/admin/indexes/${name}/documents?start=${start}&limit=${PAGE}&version=${version}`);
    const heads = [{ text: "document" }, { text: "title" }, { text: "chunks", number: true }, { text: "tags" }, { text: "date" }];
    const rows = found.documents.map((one) => [one.id, one.title ?? "", number(one.chunks), (one.tags ?? []).join(", "), one.date ?? ""]);
    const step = (to, text) => h("button", { type: "button", class: "quiet", disabled: to < 0 || to >= found.total, onclick: (event) => act(event.target, problem, () => documentsOf(name, place, to, version)) }, text);
    replace(place, h("p", { class: "facts" }, found.total === 0 ? `Version ${found.version} has no documents.` : `${number(start + 1)} to ${number(Math.min(start + PAGE, found.total))} of ${number(found.total)}, version ${found.version}`),
      table(heads, rows, `Documents of ${name}`), h("div", { class: "row" }, step(start - PAGE, "Before"), step(start + PAGE, "After")));
  }

  function upload() {
    const [nameLabel, name] = field("Index", (id) => h("input", { id, value: me.offers.index?.split("@")[0] ?? "docs", required: true }));
    const [filesLabel, files] = field("Files", (id) => h("input", { id, type: "file", multiple: true, required: true }));
    const bar = h("progress", { max: "1", hidden: true }), told = h("pre", { tabindex: "0", hidden: true, "aria-label": "Log of the job" }), failed = h("p", { class: "problem", role: "alert" });
    const button = h("button", { type: "submit" }, "Upload");
    const go = async () => {
      const form = new FormData();
      for (const file of files.files) form.append("files", file, file.name);
      [bar.hidden, told.hidden] = [false, false];
      bar.removeAttribute("value");
      told.textContent = "sending …";
      try {
        const queued = await (await send(`/admin/indexes/${encodeURIComponent(name.value.trim())}/documents`, { method: "POST", form })).json();
        for (;;) {
          const job = await ask(queued.status);
          told.textContent = [job.status, ...job.log].join("\n");
          if (["SUCCEEDED", "FAILED", "STOPPED"].includes(job.status)) {
            if (job.status !== "SUCCEEDED") throw new Error(`the job has ${job.status.toLowerCase()}: ${job.log.at(-1) ?? ""}`);
            break;
          }
          if (left) return;
          await new Promise((resolve) => setTimeout(resolve, 1000));
        }
        await draw();
      } finally {
        bar.hidden = true;
      }
    };
    return h("section", { class: "card", "aria-label": "Upload" }, h("h2", {}, "Upload documents"),
      h("form", { onsubmit: (event) => { event.preventDefault(); act(button, failed, go); } }, nameLabel, name, filesLabel, files, h("p", {}, button)), bar, told, failed);
  }

  await draw();
  return { content: h("div", {}, writes ? upload() : null, problem, list), leave: () => { left = true; } };
}
