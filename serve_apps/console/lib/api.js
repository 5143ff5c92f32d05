// The application's documented routes. The key stays in this tab, and goes to this server only.
const root = new URL("..", new URL(".", import.meta.url)).href.replace(/console\/$/, "");
const KEPT = "llama-platform-key";

export const key = {
  get: () => sessionStorage.getItem(KEPT) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEPT, value) : sessionStorage.removeItem(KEPT)),
};
export const address = (path) => root + path.replace(/^\//, "");

export class Problem extends Error {
  constructor(status, body) {
    const detail = body?.detail ?? body?.error?.message ?? body?.message ?? "";
    super(typeof detail === "string" && detail ? detail : `the server answered ${status}`);
    this.status = status;
  }
}

export async function send(path, { method = "GET", json, form, signal, headers = {} } = {}) {
  const sent = { ...headers };
  if (key.get()) sent.Authorization = `Bearer ${key.get()}`;
  if (json !== undefined) sent["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(address(path), { method, headers: sent, body: json !== undefined ? JSON.stringify(json) : form, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail: "the server cannot be reached" });
  }
  if (!response.ok) {
    let body = null;
    try { body = await response.json(); } catch { /* no JSON: the status says what there is to say */ }
    if (response.status === 401) document.dispatchEvent(new CustomEvent("unauthorized"));
    throw new Problem(response.status, body);
  }
  return response;
}

export async function ask(path, options) {
  return (await send(path, options)).json();
}

// Yields {event, data} of a response that streams; one that is cut before `ends` says so is a problem.
export async function* stream(path, options, ends) {
  const response = await send(path, { method: "POST", ...options });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", ended = false;
  try {
    for (;;) {
      let piece;
      try {
        piece = await reader.read();
      } catch (error) {
        if (error.name === "AbortError") throw error;
        throw new Problem(0, { detail: "the connection was cut before the answer's end" });
      }
      if (piece.done) break;
      rest += piece.value;
      const blocks = rest.split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const found = { event: "message", data: "" };
        for (const line of block.split("\n")) {
          if (line.startsWith("event: ")) found.event = line.slice(7);
          if (line.startsWith("data: ")) found.data += line.slice(6);
        }
        if (!found.data) continue;
        ended ||= ends(found);
        yield found;
      }
    }
    if (!ended) throw new Problem(0, { detail: "the connection was cut before the answer's end" });
  } finally {
    reader.cancel().catch(() => {});
  }
}
