import { ask } from "../lib/api.js";
import { act, field, h, number, repeat, replace, table, when } from "../lib/dom.js";

const PAGE = 30;
const GUARDS = {
  failed: "fail", refused: "are refused by rules", ungrounded: "do not stand in their sources", unended: "run into their bound on length",
  disliked: "are rated down", slow: "begin late", short: "are short", long: "are long",
};

export async function page(me, [name]) {
  return name ? one(me, name) : list();
}

async function list() {
  const [found, canaries] = [await ask("/admin/adapters"), await ask("/admin/canaries")];
  const [label, filter] = field("Name contains", (id) => h("input", { id, type: "search" }));
  const shown = h("div", {});
  const heads = [{ text: "adapter" }, { text: "versions", number: true }, { text: "production" }, { text: "state" }, { text: "canary" }];
  let start = 0;

  function draw() {
    const chosen = found.filter((adapter) => adapter.name.includes(filter.value.trim()));
    start = Math.max(0, Math.min(start, chosen.length - 1));
    const rows = chosen.slice(start, start + PAGE).map((adapter) => {
      const live = adapter.live?.production, canary = canaries.find((each) => each.name === adapter.name && each.status === "running");
      return [h("a", { href: `#/adapters/${adapter.name}` }, adapter.name), number(adapter.all_versions.length), live ? targets(live.targets) : "–",
        live ? h("span", { class: live.status === "live" ? "good" : "warn" }, live.status) : "–", canary ? `version ${canary.candidate}, ${canary.periods.at(-1)?.share ?? 0} %` : ""];
    });
    const step = (to, text) => h("button", { type: "button", class: "quiet", disabled: to < 0 || to >= chosen.length, onclick: () => { start = to; draw(); } }, text);
    replace(shown, table(heads, rows, "Adapters"), h("div", { class: "row" }, h("span", { class: "facts" }, `${number(chosen.length)} adapters`), step(start - PAGE, "Before"), step(start + PAGE, "After")));
  }

  filter.addEventListener("input", () => { start = 0; draw(); });
  draw();
  return { content: h("div", {}, label, filter, shown) };
}

const targets = (found) => found.map((target) => (found.length > 1 ? `v${target.version}: ${target.weight}` : `v${target.version}`)).join(", ") || "none";

async function one(me, name) {
  const problem = h("p", { class: "problem", role: "alert" }), lost = h("p", { class: "problem", role: "alert" });
  const [above, below] = [h("div", {}), h("div", {})];
  const writes = me.administers === "writes";
  let known = await ask(`/admin/adapters/${name}`);

  async function draw() {
    const found = (known = await ask(`/admin/adapters/${name}`));
    const canary = await ask(`/admin/adapters/${name}/canary`).catch((error) => { if (error.status === 404) return null; throw error; });
    const { replicas } = await ask("/admin/traffic");
    replace(above, aliases(found, replicas), canaryCard(found, canary));
    replace(below, versions(found), history(found));
  }

  const change = (button, method, path, json) => act(button, problem, async () => {
    const expected = ["promote", "split", "rollback"].includes(path) ? { expected_generation: known.generation } : {};
    await ask(`/admin/adapters/${name}/${path}`, { method, json: json && { ...json, ...expected } });
    await draw();
  });

  function aliases(found, replicas) {
    const rows = Object.entries(found.aliases).map(([alias, pointed]) => {
      const live = found.live?.[alias] ?? { targets: [], status: "not known yet" };
      const digests = live.targets.map((target) => target.digest);
      const holding = replicas.filter((replica) => digests.length && digests.every((digest) => (replica.adapters_loaded ?? []).some((held) => held === digest || held.digest === digest))).length;
      return [alias, targets(pointed), targets(live.targets), targets(pointed) === targets(live.targets) || live.reason ? live.status : "is being loaded", `${holding} of ${replicas.length}`, live.reason ?? ""];
    });
    return h("section", { class: "card" }, h("h3", {}, "Aliases"), table([{ text: "alias" }, { text: "points at" }, { text: "answers" }, { text: "state" }, { text: "replicas that hold it" }, { text: "why" }], rows, "Aliases"));
  }

  function changes(found) {
    const present = found.aliases.production?.[0]?.version;
    const newest = found.all_versions.slice().reverse();
    const choice = (id) => h("select", { id }, newest.map((n) => h("option", { value: String(n) }, `version ${n}`)));
    const presentFirst = (id) => h("select", { id }, newest.map((n) => h("option", { value: String(n), selected: n === present }, `version ${n}`)));
    const [versionLabel, version] = field("Version", presentFirst);
    const [otherLabel, other] = field("and", choice);
    const share = h("input", { type: "range", min: "1", max: "99", value: "10", "aria-label": "Percent of the second" });
    const told = h("output", {}, "90 : 10");
    share.addEventListener("input", () => { told.textContent = `${100 - share.valueAsNumber} : ${share.valueAsNumber}`; });
    const [candidateLabel, candidate] = field("Candidate", choice);
    const [sharesLabel, shares] = field("Percent, step by step", (id) => h("input", { id, value: "5, 20, 50" }));
    const [requestsLabel, requests] = field("Requests in each step", (id) => h("input", { id, type: "number", min: "10", value: "200" }));
    const split = (event) => {
      if (version.value === other.value) { problem.textContent = "A split needs two different versions."; return; }
      change(event.target, "POST", "split", { weights: { [version.value]: 100 - share.valueAsNumber, [other.value]: share.valueAsNumber } });
    };
    const start = (event) => change(event.target, "POST", "canary", { version: Number(candidate.value), shares: shares.value.split(",").map(Number), requests: requests.valueAsNumber });
    return h("section", { class: "card" }, h("h3", {}, "Change production"),
      h("div", { class: "row" }, h("div", {}, versionLabel, version), h("button", { type: "button", onclick: (event) => change(event.target, "POST", "promote", { version: Number(version.value) }) }, "Promote"),
        h("button", { type: "button", class: "bad", onclick: (event) => change(event.target, "POST", "rollback", {}) }, "Roll back")),
      h("div", { class: "row" }, h("div", {}, otherLabel, other), share, told, h("button", { type: "button", class: "quiet", onclick: split }, "Split")),
      h("div", { class: "row" }, h("div", {}, candidateLabel, candidate), h("div", {}, sharesLabel, shares), h("div", {}, requestsLabel, requests), h("button", { type: "button", class: "quiet", onclick: start }, "Start a canary")));
  }

  function canaryCard(found, canary) {
    if (!canary) return null;
    const heads = [{ text: "answers that …" }, { text: `version ${canary.candidate}`, number: true }, { text: `version ${canary.present}`, number: true }, { text: "evidence" }];
    const rows = Object.entries(canary.guards).map(([guard, state]) => [GUARDS[guard] ?? guard, number(state.candidate), number(state.present),
      h("progress", { max: "1", value: Math.max(0, Math.min(1, state.evidence / canary.needed)), "aria-label": `Evidence by ${guard}, as a share of what rolls back` })]);
    const share = canary.periods.at(-1)?.share;
    return h("section", { class: "card", "aria-label": "Canary" }, h("h3", {}, `Canary: version ${canary.candidate} beside ${canary.present}`),
      h("p", {}, h("span", { class: "badge" }, canary.status.replaceAll("_", " ")), canary.status === "running" ? ` ${share} % of the traffic; ` : " ",
        `${number(canary.requests[canary.candidate] ?? 0)} and ${number(canary.requests[canary.present] ?? 0)} requests. ${canary.reason}`),
      rows.length ? table(heads, rows, "Guards") : null,
      writes && canary.status === "running" ? h("button", { type: "button", class: "bad", onclick: (event) => change(event.target, "DELETE", "canary") }, "Stop it") : null);
  }

  function versions(found) {
    const facts = found.versions.map((version) => {
      const { metadata } = version;
      const told = { base: metadata.base, run: metadata.run_id, dataset: metadata.dataset?.name ? `${metadata.dataset.name}@${metadata.dataset.version}` : metadata.dataset, "held-out loss": metadata.metrics?.eval_loss, steps: metadata.metrics?.step, rank: metadata.settings?.lora?.r, prompt: metadata.prompt_style };
      const rows = Object.entries(told).filter(([, value]) => value !== undefined && value !== null).map(([label, value]) =>
        [label, label === "run" ? h("a", { href: `#/runs/${value}` }, value) : typeof value === "object" ? JSON.stringify(value) : typeof value === "number" ? number(value, 4) : String(value)]);
      return h("details", { open: found.versions.length < 4 }, h("summary", {}, `Version ${version.version}, ${when(version.created)}`), rows.length ? table([{ text: "fact" }, { text: "" }], rows, `Version ${version.version}`) : h("p", {}, "Nothing is recorded."),
        h("p", { class: "facts mono" }, version.digest ?? ""));
    });
    return h("section", { class: "card" }, h("h3", {}, "Versions that aliases name"), facts);
  }

  function history(found) {
    const rows = found.history.slice().reverse().map((change) => [when(change.at), change.alias, change.action, targets(change.targets)]);
    return h("section", { class: "card" }, h("h3", {}, "History"), table([{ text: "when" }, { text: "alias" }, { text: "what" }, { text: "points at" }], rows, "History"));
  }

  await draw();
  const content = h("div", {}, h("p", {}, h("a", { href: "#/adapters" }, "All adapters")), h("h2", {}, name), lost, above, problem, writes ? changes(known) : null, below);
  return { content, leave: repeat(draw, lost, 3000) };
}
