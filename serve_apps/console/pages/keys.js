import { ask } from "../lib/api.js";
import { act, field, h, number, replace, table, when } from "../lib/dom.js";

const PAGE = 50;
const SCOPES = { generate: "generate", rag: "ask documents", embed: "embed and rerank", feedback: "rate answers", "admin:read": "see administration", "admin:write": "administer" };

export async function page(me) {
  const writes = me.administers === "writes";
  let start = 0;
  const list = h("div", {}), problem = h("p", { class: "problem", role: "alert" }), made = h("div", { role: "status" });

  async function draw() {
    const found = await ask("/admin/keys");
    start = Math.max(0, Math.min(start, found.length - 1));
    const step = (to, text) => h("button", { type: "button", class: "quiet", disabled: to < 0 || to >= found.length, onclick: (event) => { start = to; act(event.target, problem, draw); } }, text);
    const rows = found.slice(start, start + PAGE).map((key) => {
      const over = key.revoked ? `revoked ${when(key.revoked)}` : key.expires && new Date(key.expires) < new Date() ? `expired ${when(key.expires)}` : "";
      const limits = Object.entries(key.limits ?? {}).filter(([, value]) => value !== null).map(([name, value]) => `${name.replaceAll("_", " ")} ${number(value)}`).join(", ");
      const revoke = (event) => { if (confirm(`Revoke the key ${key.name} (${key.id})? What uses it is refused at once.`)) act(event.target, problem, async () => { await ask(`/admin/keys/${key.id}/revoke`, { method: "POST" }); await draw(); }); };
      return [key.name, key.tenant, h("span", { class: "mono" }, key.id), key.scopes.join(", "), limits || "as its tenant", when(key.expires), over || (writes ? h("button", { type: "button", class: "bad", onclick: revoke }, "Revoke") : "valid")];
    });
    replace(list, table([{ text: "name" }, { text: "tenant" }, { text: "id" }, { text: "may" }, { text: "limits" }, { text: "expires" }, { text: "" }], rows, "Keys"),
      found.length > PAGE ? h("div", { class: "row" }, h("span", { class: "facts" }, `${number(found.length)} keys`), step(start - PAGE, "Before"), step(start + PAGE, "After")) : null);
  }

  function create() {
    const [nameLabel, name] = field("Name", (id) => h("input", { id, required: true, pattern: "[a-z0-9][a-z0-9._\\-]{0,62}" }));
    const [tenantLabel, tenant] = field("Tenant", (id) => h("input", { id, required: true, readonly: Boolean(me.tenant), value: me.tenant ?? "", pattern: "[a-z0-9][a-z0-9._\\-]{0,62}" }));
    const offered = Object.entries(SCOPES).filter(([scope]) => !me.gives || me.gives.includes(scope));
    const scopes = offered.map(([scope, text]) => h("label", { class: "inline" }, h("input", { type: "checkbox", name: "scope", value: scope, checked: scope === "generate" }), text));
    const [adaptersLabel, adapters] = field("Adapters it sees (commas between; * for any)", (id) => h("input", { id }));
    const [indexesLabel, indexes] = field("Indexes it sees", (id) => h("input", { id }));
    const [minuteLabel, minute] = field("Requests a minute", (id) => h("input", { id, type: "number", min: "1" }));
    const [dayLabel, day] = field("Tokens a day", (id) => h("input", { id, type: "number", min: "1" }));
    const [expiresLabel, expires] = field("Days until it expires", (id) => h("input", { id, type: "number", min: "1" }));
    const button = h("button", { type: "submit" }, "Create"), failed = h("p", { class: "problem", role: "alert" });
    const words = (input) => input.value.split(",").map((word) => word.trim()).filter(Boolean);
    const form = h("form", { onsubmit: (event) => { event.preventDefault(); act(button, failed, go); } }, h("div", { class: "row" }, h("div", {}, nameLabel, name), h("div", {}, tenantLabel, tenant)), h("fieldset", {}, h("legend", {}, "May"), h("div", { class: "row" }, scopes)),
      adaptersLabel, adapters, indexesLabel, indexes, h("div", { class: "row" }, h("div", {}, minuteLabel, minute), h("div", {}, dayLabel, day), h("div", {}, expiresLabel, expires)), h("p", {}, button));

    async function go() {
      const limits = {};
      if (minute.value) limits.requests_per_minute = minute.valueAsNumber;
      if (day.value) limits.tokens_per_day = day.valueAsNumber;
      const json = { name: name.value.trim(), tenant: tenant.value.trim(), scopes: [...form.querySelectorAll("[name=scope]:checked")].map((box) => box.value), adapters: words(adapters), indexes: words(indexes), limits };
      if (expires.value) json.expires_days = expires.valueAsNumber;
      const key = await ask("/admin/keys", { method: "POST", json });
      replace(made, h("div", { class: "card" }, h("h3", {}, `The key of ${key.name}`), h("p", {}, "It is shown this once; nobody can show it again."), h("pre", { tabindex: "0" }, key.key), h("button", { type: "button", class: "quiet", onclick: () => replace(made) }, "I have it")));
      await draw();
    }

    return h("details", { class: "card" }, h("summary", {}, "Create a key"), form, failed);
  }

  await draw();
  return { content: h("div", {}, writes ? create() : null, made, problem, list) };
}
