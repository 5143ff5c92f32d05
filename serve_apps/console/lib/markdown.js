// Markdown as nodes, from a short list of what is known: headings, lists, code, emphasis, quotes. What models write is
// text; links and pictures stay as they are written, so nothing is fetched and nothing leads away.
import { h } from "./dom.js";

const INLINE = /(`[^`\n]+`)|(\*\*[^*\n]+\*\*)|(\*[^*\s][^*\n]*\*)/g;

function inline(text) {
  const nodes = [];
  let last = 0;
  for (const found of text.matchAll(INLINE)) {
    nodes.push(text.slice(last, found.index));
    const [all, code, strong] = found;
    nodes.push(code ? h("code", {}, all.slice(1, -1)) : strong ? h("strong", {}, all.slice(2, -2)) : h("em", {}, all.slice(1, -1)));
    last = found.index + all.length;
  }
  nodes.push(text.slice(last));
  return nodes.filter((node) => node !== "");
}

export function markdown(text) {
  const blocks = [];
  const lines = text.split("\n");
  let place = 0;
  const take = (test) => {
    const taken = [];
    while (place < lines.length && test(lines[place])) taken.push(lines[place++]);
    return taken;
  };
  while (place < lines.length) {
    const line = lines[place];
    if (!line.trim()) { place++; continue; }
    if (line.startsWith("```")) {
      place++;
      const code = take((one) => !one.startsWith("```"));
      place++;
      blocks.push(h("pre", { tabindex: "0" }, h("code", {}, code.join("\n"))));
    } else if (/^#{1,6} /.test(line)) {
      place++;
      blocks.push(h("h3", {}, ...inline(line.replace(/^#+ /, ""))));
    } else if (/^\s*[-*] /.test(line)) {
      blocks.push(h("ul", {}, take((one) => /^\s*[-*] /.test(one)).map((one) => h("li", {}, ...inline(one.replace(/^\s*[-*] /, ""))))));
    } else if (/^\s*\d+[.)] /.test(line)) {
      blocks.push(h("ol", {}, take((one) => /^\s*\d+[.)] /.test(one)).map((one) => h("li", {}, ...inline(one.replace(/^\s*\d+[.)] /, ""))))));
    } else if (line.startsWith("> ")) {
      blocks.push(h("blockquote", {}, ...inline(take((one) => one.startsWith("> ")).map((one) => one.slice(2)).join("\n"))));
    } else {
      const paragraph = take((one) => one.trim() && !/^(```|#{1,6} |> |\s*[-*] |\s*\d+[.)] )/.test(one));
      if (!paragraph.length) paragraph.push(lines[place++]);
      blocks.push(h("p", {}, ...inline(paragraph.join("\n"))));
    }
  }
  return blocks;
}
