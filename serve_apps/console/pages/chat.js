import { address, ask, stream } from "../lib/api.js";
import { act, field, h, number, replace } from "../lib/dom.js";
import { markdown } from "../lib/markdown.js";

const MOST_LISTED = 500;
const PATH = "/v1/chat/completions";

export async function page(me) {
  const { data } = await ask("/v1/models");
  const models = data.map((model) => model.id).filter((id) => id === "base" || id.startsWith("base:"));
  const usual = me.offers.adapter ? `base:${me.offers.adapter.replace(/@production$/, "")}` : "base";
  const listed = h("datalist", { id: "models" }, models.slice(0, MOST_LISTED).map((id) => h("option", { value: id })));
  const settings = {};
  const make = (name, text, attributes) => field(text, (id) => (settings[name] = h("input", { id, ...attributes })));
  const [modelLabel, model] = make("model", "Model: a name, name@alias or name@version", { list: "models", value: models.includes(usual) ? usual : "base" });
  const [besideLabel, beside] = make("beside", "Beside it (optional)", { list: "models", value: "", placeholder: "none" });
  const [temperatureLabel, temperature] = make("temperature", "Temperature", { type: "number", min: "0", max: "2", step: "0.1", value: "0.7" });
  const [topPLabel, topP] = make("top_p", "Top p", { type: "number", min: "0.01", max: "1", step: "0.01", value: "1" });
  const [lengthLabel, length] = make("max_tokens", "Tokens at most", { type: "number", min: "1", max: "100000", value: "256" });
  const [systemLabel, system] = field("System text", (id) => h("textarea", { id, rows: "2" }));
  const keeps = h("input", { type: "checkbox", id: "keep" });
  const log = h("div", { "aria-live": "polite", "aria-label": "Conversation" });
  const [textLabel, text] = field("Your message", (id) => h("textarea", { id, rows: "3", placeholder: "Ask something; Enter sends, Shift+Enter makes a new line" }));
  const problem = h("p", { class: "problem", role: "alert" });
  const sendButton = h("button", { type: "button", onclick: () => send() }, "Send");
  const stopButton = h("button", { type: "button", class: "quiet", disabled: true, onclick: () => running?.abort() }, "Stop");
  const rates = me.offers.feedback && me.scopes.includes("feedback");
  let turns = [], running = null;

  function columns() {
    return [model.value.trim() || "base", ...(beside.value.trim() ? [beside.value.trim()] : [])];
  }

  function body(column, name) {
    const messages = system.value.trim() ? [{ role: "system", content: system.value.trim() }] : [];
    for (const turn of turns) {
      messages.push({ role: "user", content: turn.question });
      const said = turn.answers[column] ?? turn.answers[0];
      if (turn !== turns.at(-1)) messages.push({ role: "assistant", content: said?.text || "…" });
    }
    const numbers = { temperature: temperature.valueAsNumber, top_p: topP.valueAsNumber, max_tokens: length.valueAsNumber };
    return { model: name, messages, ...Object.fromEntries(Object.entries(numbers).filter(([, value]) => !Number.isNaN(value))) };
  }

  async function answer(turn, column, name, signal) {
    const said = { text: "", model: name, facts: "", state: "…", kept: keeps.checked, node: h("div", { class: "turn", "aria-busy": "true" }) };
    turn.answers[column] = said;
    turn.place.append(said.node);
    paint(said);
    const asked = body(column, name);
    said.body = asked;
    const begun = performance.now();
    let first = null, usage = null;
    try {
      const headers = rates ? { "X-Keep-Conversation": String(said.kept) } : {};
      const options = { json: { ...asked, stream: true, stream_options: { include_usage: true } }, signal, headers };
      for await (const { data } of stream(PATH, options, (found) => found.data === "[DONE]")) {
        if (data === "[DONE]") break;
        const chunk = JSON.parse(data);
        if (chunk.error) throw new Error(chunk.error.message);
        said.id = chunk.id?.replace(/^chatcmpl-/, "");
        usage = chunk.usage ?? usage;
        const choice = chunk.choices?.[0];
        if (choice?.delta?.content) {
          first ??= performance.now();
          said.text += choice.delta.content;
        }
        if (choice?.finish_reason) said.state = choice.finish_reason;
        said.frame ??= requestAnimationFrame(() => { said.frame = null; paint(said); });
      }
      said.done = true;
    } catch (error) {
      said.state = error.name === "AbortError" ? "stopped" : "";
      said.problem = error.name === "AbortError" ? "" : error.message;
    }
    const seconds = (performance.now() - (first ?? begun)) / 1000;
    const parts = [];
    if (first !== null) parts.push(`first token ${number(first - begun)} ms`);
    if (usage) parts.push(`${number(usage.completion_tokens)} tokens`);
    if (usage?.completion_tokens > 1 && seconds > 0) parts.push(`${number((usage.completion_tokens - 1) / seconds, 1)} tokens/s`);
    if (said.state && said.state !== "stop") parts.push(said.state === "length" ? "cut at its length" : said.state);
    said.facts = parts.join(" · ");
    said.over = true;
    paint(said);
    said.node.setAttribute("aria-busy", "false");
  }

  async function send() {
    if (running || !text.value.trim()) return;
    const names = columns();
    const turn = { question: text.value.trim(), answers: [], place: h("div", { class: names.length > 1 ? "two" : "" }) };
    turns.push(turn);
    text.value = "";
    draw();
    running = new AbortController();
    [sendButton.disabled, stopButton.disabled, problem.textContent] = [true, false, ""];
    try {
      await Promise.all(names.map((name, column) => answer(turn, column, name, running.signal)));
    } finally {
      running = null;
      [sendButton.disabled, stopButton.disabled] = [false, true];
      text.focus();
    }
  }

  function edit(place) {
    if (running) return;
    text.value = turns[place].question;
    turns = turns.slice(0, place);
    draw();
    text.focus();
  }

  function paint(said) {
    const copy = (label, make) => h("button", { type: "button", class: "quiet", onclick: (event) => copied(event.target, make(said.body)) }, label);
    const acts = said.over && said.done && said.body ? [copy("Copy as curl", asCurl), copy("Copy as Python", asPython)] : [];
    if (said.over && said.done && rates && said.kept && said.state === "stop") acts.push(...opinions(said));
    replace(said.node, h("header", {}, said.model), markdown(said.text),
      said.text || said.problem ? null : h("p", { class: "facts" }, said.state),
      said.problem ? h("p", { class: "problem", role: "alert" }, said.problem) : null,
      said.facts ? h("p", { class: "facts" }, said.facts) : null, acts.length ? h("div", { class: "row" }, acts) : null);
  }

  function opinions(said) {
    const told = h("span", { class: "facts", role: "status" }, said.opinion ?? "");
    const say = async (button, opinion) => act(button, told, async () => {
      await ask("/feedback", { method: "POST", json: { request: said.id, ...opinion } });
      said.opinion = told.textContent = "Thank you.";
    });
    const correct = (event) => {
      const box = h("textarea", { rows: "3", "aria-label": "What the answer should have been" });
      box.value = said.text;
      const keep = h("button", { type: "button", onclick: (one) => say(one.target, { rating: "down", correction: box.value.trim() }) }, "Keep the correction");
      event.target.parentElement.after(h("div", {}, box, keep));
      box.focus();
    };
    return [
      h("button", { type: "button", class: "quiet", "aria-label": "Good answer", onclick: (event) => say(event.target, { rating: "up" }) }, "Good"),
      h("button", { type: "button", class: "quiet", "aria-label": "Bad answer", onclick: (event) => say(event.target, { rating: "down" }) }, "Bad"),
      h("button", { type: "button", class: "quiet", onclick: correct }, "Correct it"), told,
    ];
  }

  function draw() {
    replace(log, turns.flatMap((turn, place) => [
      h("div", { class: "turn user" }, h("header", {}, "You"), h("p", {}, turn.question),
        h("button", { type: "button", class: "quiet", onclick: () => edit(place) }, "Edit and ask again")),
      turn.place,
    ]));
  }

  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
  });
  const aside = h("aside", { class: "card", "aria-label": "Settings" }, listed, modelLabel, model, besideLabel, beside,
    systemLabel, system, temperatureLabel, temperature, topPLabel, topP, lengthLabel, length,
    rates ? h("label", { class: "inline" }, keeps, "Keep this conversation, so that it may be learned from and rated") : null,
    h("p", {}, h("button", { type: "button", class: "quiet", onclick: () => { if (!running) { turns = []; draw(); } } }, "Begin anew")));
  const content = h("div", { class: "columns" }, h("div", {}, log, textLabel, text, h("div", { class: "row" }, sendButton, stopButton), problem), aside);
  return { content, shown: () => text.focus(), leave: () => running?.abort() };
}

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

function asCurl(body) {
  return `curl -s ${address(PATH)} -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' \\\n     -d ${quoted(JSON.stringify(body))}`;
}

function asPython(body) {
  const given = Object.entries(body).map(([name, value]) => `    ${name}=${JSON.stringify(value)},`).join("\n");
  return `import os\n\nfrom openai import OpenAI\n\nclient = OpenAI(base_url=${JSON.stringify(address("/v1"))}, api_key=os.environ["KEY"])\n` +
    `answer = client.chat.completions.create(\n${given}\n)\nprint(answer.choices[0].message.content)\n`;
}

async function copied(button, text) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.parentElement.after(h("pre", { tabindex: "0" }, text));
  }
  setTimeout(() => { button.textContent = before; }, 1500);
}
