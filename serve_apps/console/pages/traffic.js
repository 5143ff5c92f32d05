import { ask } from "../lib/api.js";
import { chart } from "../lib/chart.js";
import { h, number, repeat, replace, table, tile } from "../lib/dom.js";

export async function page() {
  const content = h("div", {}), problem = h("p", { class: "problem", role: "alert" });
  const usage = await ask("/admin/usage");
  const clock = (seconds) => new Date(1000 * seconds).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

  async function draw() {
    const { minutes: told, replicas, breakers } = await ask("/admin/traffic");
    const minutes = whole(told);
    const sum = (name) => minutes.reduce((total, minute) => total + minute[name], 0);
    const of = (measure, quantile) => minutes.map((minute) => [minute.begun, minute[measure]?.[quantile] ?? null]);
    const count = (name) => minutes.map((minute) => [minute.begun, minute[name]]);
    const total = (name) => replicas.reduce((all, replica) => all + (replica[name] ?? 0), 0);
    const prompts = sum("prompt_tokens");
    replace(content, problem, h("p", { class: "facts" }, "The last hour, as this ingress replica saw it. Times are upper bounds of buckets that grow by the square root of two."),
      h("div", { class: "tiles" }, tile(number(sum("requests")), "requests"), tile(number(sum("failed")), "failed"), tile(number(sum("refused")), "refused, clients' mistakes among them"), tile(number(sum("completion_tokens")), "tokens of answers"),
        tile(prompts ? `${number((100 * sum("cached_tokens")) / prompts)} %` : "–", "of prompts in the cache"), tile(number(total("running")), "answers now"), tile(number(total("waiting")), "waiting"), tile(String(replicas.length), "replicas")),
      h("div", { class: "charts" }, chart({ label: "Requests by minute", zero: true, x: clock, lines: [{ name: "all", points: count("requests") }, { name: "failed", points: count("failed") }] }),
      chart({ label: "Milliseconds of a request", zero: true, x: clock, lines: ["p50", "p95", "p99"].map((q) => ({ name: q, points: of("milliseconds", q) })) }),
      chart({ label: "Milliseconds to the first token", zero: true, x: clock, lines: ["p50", "p95", "p99"].map((q) => ({ name: q, points: of("first_token_ms", q) })) })),
      h("h2", {}, "Breakers"), table([{ text: "before" }, { text: "state" }], Object.entries(breakers).map(([name, state]) => [name, h("span", { class: state === "closed" ? "good" : "bad-text" }, state)]), "Breakers"),
      h("h2", {}, "Use, last 30 days"), table([{ text: "day" }, { text: "tenant" }, { text: "adapter" }, { text: "requests", number: true }, { text: "failed", number: true }, { text: "prompt tokens", number: true }, { text: "answer tokens", number: true }, { text: "cost", number: true }],
        usage.rows.slice().reverse().slice(0, 200).map((row) => [row.day, row.tenant || "–", row.adapter || "base", number(row.requests), number(row.failed), number(row.prompt_tokens), number(row.completion_tokens), number(row.cost, 4)]), "Use"));
  }

  await draw();
  return { content, leave: repeat(draw, problem, 5000) };
}

// Minutes in which nothing ended are not told: they are none, not what lies between their neighbours.
function whole(minutes) {
  const found = [];
  for (const minute of minutes) {
    while (found.length && minute.begun - found.at(-1).begun > 60) {
      const names = ["requests", "failed", "refused", "prompt_tokens", "cached_tokens", "completion_tokens"];
      found.push({ begun: found.at(-1).begun + 60, ...Object.fromEntries(names.map((name) => [name, 0])) });
    }
    found.push(minute);
  }
  return found;
}
