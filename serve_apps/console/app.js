import { ask, key, Problem } from "./lib/api.js";
import { h, replace } from "./lib/dom.js";

// A page is shown only to those whose key may do what it is for.
const PAGES = [
  { path: "chat", title: "Chat", may: (me) => me.scopes.includes("generate") },
  { path: "documents", title: "Documents", may: (me) => me.offers.rag && (me.scopes.includes("rag") || me.administers !== "nothing") },
  { path: "adapters", title: "Adapters", may: (me) => me.administers !== "nothing" },
  { path: "runs", title: "Runs", may: (me) => me.administers !== "nothing" },
  { path: "traffic", title: "Traffic", may: (me) => me.administers !== "nothing" },
  { path: "keys", title: "Keys", may: (me) => me.administers !== "nothing" && me.keys_are_asked_for },
];
const [main, nav, status, dialog] = ["main", "nav", "status", "login"].map((id) => document.getElementById(id));
let me = null, leave = () => {}, turn = 0;

async function begin() {
  leave();
  leave = () => {};
  turn++;
  try {
    me = await ask("/me");
  } catch (error) {
    me = null;
    replace(nav);
    if (error instanceof Problem && error.status === 401) {
      replace(main, h("h1", {}, "A key is needed"), h("p", {}, "This application asks for keys. ", h("button", { type: "button", onclick: login }, "Enter a key")));
      login();
    } else {
      replace(main, h("h1", {}, "Not now"), h("p", { class: "problem", role: "alert" }, error.message), h("button", { type: "button", onclick: begin }, "Try again"));
    }
    return;
  }
  document.getElementById("account").textContent = me.tenant ? `Key of ${me.tenant}` : me.administers === "nothing" ? "Key" : "Administrator";
  await show();
}

async function show() {
  if (!me) return;
  const pages = PAGES.filter((page) => page.may(me));
  const [path, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  const page = pages.find((one) => one.path === path) ?? pages[0];
  replace(nav, pages.map((one) => h("a", { href: `#/${one.path}`, "aria-current": one === page ? "page" : null }, one.title)));
  leave();
  leave = () => {};
  if (!page) {
    replace(main, h("h1", {}, "Nothing to show"), h("p", {}, "This key may do nothing that the console shows."));
    return;
  }
  document.title = `${page.title} · llama-platform`;
  const mine = ++turn;
  try {
    const module = await import(`./pages/${page.path}.js`);
    const made = await module.page(me, rest);
    if (mine !== turn) return made.leave?.();  // somebody has gone on meanwhile
    replace(main, h("h1", {}, page.title), made.content);
    leave = made.leave ?? (() => {});
    made.shown?.();
  } catch (error) {
    if (mine === turn) replace(main, h("h1", {}, page.title), h("p", { class: "problem", role: "alert" }, error.message), h("button", { type: "button", onclick: show }, "Try again"));
  }
}

function login() {
  document.getElementById("login-problem").textContent = "";
  if (!dialog.open) dialog.showModal();
  document.getElementById("key").focus();
}

document.getElementById("account").addEventListener("click", login);
document.getElementById("login-cancel").addEventListener("click", () => dialog.close());
document.getElementById("login-forget").addEventListener("click", () => { key.set(""); dialog.close(); begin(); });
document.getElementById("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const before = key.get(), given = document.getElementById("key");
  key.set(given.value.trim());
  try {
    if ((await ask("/me")).given === "unknown") throw new Error("This is no key, nor the administrator's token.");
  } catch (error) {
    key.set(before);
    document.getElementById("login-problem").textContent = error.message;
    return;
  }
  given.value = "";
  dialog.close();
  begin();
});
document.addEventListener("unauthorized", () => { if (me) { document.getElementById("login-problem").textContent = "The key is not taken any more."; if (!dialog.open) dialog.showModal(); } });
window.addEventListener("hashchange", show);

function tell(text, kind) {
  if (status.textContent !== text) replace(status, h("span", { class: kind }, text));  // unchanged, nobody need hear it again
}

async function look() {
  try {
    const found = await fetch(new URL("../health", location.href));
    const { status: state } = await found.json();
    tell(state === "ok" ? "ready" : state, state === "ok" ? "good" : "warn");
  } catch {
    tell("not reachable", "bad-text");
  }
}
setInterval(look, 15000);
look();
begin();
