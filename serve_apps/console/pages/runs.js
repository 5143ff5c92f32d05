import { ask } from "../lib/api.js";
import { chart } from "../lib/chart.js";
import { act, h, number, repeat, replace, table, tile, when } from "../lib/dom.js";

const PAGE = 30;

export async function page(me, [names]) {
  return names ? some(names.split("+")) : list();
}

async function list() {
  const content = h("div", {}), problem = h("p", { class: "problem", role: "alert" });
  const chosen = new Set();

  async function draw(start) {
    const found = await ask(`/admin/runs?start=${start}&limit=${PAGE}`);
    const compare = h("a", { href: `#/runs/${[...chosen].join("+")}`, hidden: chosen.size < 2 }, "Compare the chosen");
    const rows = found.runs.map((run) => [
      h("input", { type: "checkbox", "aria-label": `Choose ${run.run}`, checked: chosen.has(run.run), onchange: (event) => {
        if (event.target.checked) chosen.add(run.run); else chosen.delete(run.run);
        compare.hidden = chosen.size < 2;
        compare.href = `#/runs/${[...chosen].join("+")}`;
      } }),
      h("a", { href: `#/runs/${run.run}` }, run.run), run.status ?? "–", number(run.step), number(run.seconds), when(run.updated),
    ]);
    const step = (to, text) => h("button", { type: "button", class: "quiet", disabled: to < 0 || to >= found.total, onclick: (event) => act(event.target, problem, () => draw(to)) }, text);
    replace(content, problem, found.total ? table([{ text: "" }, { text: "run" }, { text: "status" }, { text: "steps", number: true }, { text: "seconds", number: true }, { text: "last sign" }], rows, "Runs")
      : h("p", {}, "There is no run yet: python -m jobs.finetune makes one."), h("div", { class: "row" }, h("span", { class: "facts" }, `${number(found.total)} runs`), step(start - PAGE, "Before"), step(start + PAGE, "After"), compare));
  }

  await draw(0);
  return { content };
}

async function some(names) {
  const content = h("div", {}), problem = h("p", { class: "problem", role: "alert" });

  async function draw() {
    const runs = await Promise.all(names.map((name) => ask(`/admin/runs/${encodeURIComponent(name)}`)));
    const lines = (measure) => runs.map((run) => ({ name: run.run, points: run.steps.filter((step) => step[measure] !== null && step[measure] !== undefined).map((step) => [step.step, step[measure]]) }));
    const loss = runs.length === 1
      ? [{ name: "loss", points: lines("loss")[0].points }, { name: "held-out loss", points: lines("eval_loss")[0].points }] : lines("loss");
    const charts = [chart({ label: "Loss by step", lines: loss }), chart({ label: "Learning rate by step", lines: lines("learning_rate") }), chart({ label: "Tokens per second by step", lines: lines("tokens_per_s"), zero: true })];
    if (runs.length > 1) charts.splice(1, 0, chart({ label: "Held-out loss by step", lines: lines("eval_loss") }));
    replace(content, h("p", {}, h("a", { href: "#/runs" }, "All runs")), problem, h("h2", {}, names.join(" beside ")), runs.map(head), h("div", { class: "charts" }, charts),
      runs.map((run) => h("details", {}, h("summary", {}, `Settings of ${run.run}`), h("pre", { tabindex: "0" }, JSON.stringify(run.settings, null, 1)))));
    return runs.some((run) => run.status === "running");
  }

  function head(run) {
    const last = run.steps.at(-1);
    const speed = last?.tokens_per_s;
    return h("div", {}, run.error ? h("p", { class: "problem" }, `${run.run}: ${run.error}`) : null, h("div", { class: "tiles", role: "group", "aria-label": run.run },
      tile(run.status ?? "–", names.length > 1 ? run.run : "status"), tile(last ? `${last.step} of ${last.steps}` : "–", "steps"), tile(number(last?.loss, 4), "loss"), tile(number(speed), "tokens/s"),
      run.status === "running" && last ? tile(`${number(last.eta_s / 60, 1)} min`, "to go") : tile(number(run.seconds), "seconds"),
      run.adapter ? tile(typeof run.adapter === "string" ? run.adapter : JSON.stringify(run.adapter), "published") : null));
  }

  const leave = (await draw()) ? repeat(draw, problem, 4000) : () => {};
  return { content, leave };
}
