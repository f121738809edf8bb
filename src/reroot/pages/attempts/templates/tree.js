"use strict";
// The tree of prefixes: lists inside one another, made as they are opened.

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const RETURNED = 1, REVEALED = 2, ACCEPTED = 4, REJECTED = 8;
const SIBLINGS = 40, FIRST_OPEN = 120;

function probability(logprob) {
  const p = Math.exp(logprob);
  return p === 0 ? "0" : p >= 0.001 ? p.toPrecision(3) : p.toExponential(1);
}

function plural(count, name) {
  return `${count.toLocaleString("en")} ${name}${count === 1 ? "" : "s"}`;
}

function costText(cost) {
  const one = (name) => (name === "queries" ? "query" : name.replace(/s$/, ""));
  const parts = Object.entries(cost || {}).map(([name, n]) =>
    `${n.toLocaleString("en")} ${(n === 1 ? one(name) : name).replace("_", " ")}`);
  return parts.join(", ") || "nothing";
}

class TreeView {
  constructor(tree) {
    this.tree = tree;
    this.single = false;
    this.children = tree.token.map(() => []);
    tree.parent.forEach((parent, i) => { if (parent >= 0) this.children[parent].push(i); });
    // what was returned first, then what was drawn most, then what is likeliest
    const order = (a, b) => (tree.flags[b] & RETURNED) - (tree.flags[a] & RETURNED)
      || tree.draws[b] - tree.draws[a] || (tree.logprob[b] ?? -1e9) - (tree.logprob[a] ?? -1e9);
    for (const list of this.children) if (list.length > 1) list.sort(order);
    this.box = element("div", { class: "tree", tabindex: "0", role: "group", "aria-label": "Tree of prefixes" });
  }

  // A run of nodes of which each but the last has one child is one line.
  chain(node) {
    const found = [node];
    while (!this.single && this.children[node].length === 1 && found.length < 400) {
      node = this.children[node][0];
      found.push(node);
    }
    return found;
  }

  facts(node) {
    const t = this.tree, said = [];
    if (t.logprob[node] !== null) said.push(`p ${probability(t.logprob[node])}`);
    if (t.draws[node]) said.push(`×${t.draws[node].toLocaleString("en")}`);
    if (t.scored[node]) said.push(`scored ×${t.scored[node].toLocaleString("en")}`);
    if (t.flags[node] & ACCEPTED) said.push("verifier ✓");
    if (t.flags[node] & REJECTED) said.push("verifier ✗");
    if (node in t.value) said.push(`value ${Number(t.value[node].toPrecision(4))}`);
    if (node in t.reward) said.push(`reward ${Number(t.reward[node].toPrecision(4))}`);
    const asked = t.asked[node];
    if (asked) {
      const first = asked.slice(0, 4).map((i) => `#${i}`).join(" ");
      said.push(`asked ${first}${asked.length > 4 ? ` … ${asked.length} times` : ""}`);
    }
    return said.join(" · ");
  }

  token(node) {
    const t = this.tree, flags = t.flags[node];
    const text = node === 0 ? "∅" : t.text[node].replace(/\n/g, "↵").replace(/ /g, "␣").replace(/\t/g, "⇥") || "ε";
    const look = ["tok", flags & REJECTED && "rejected", flags & RETURNED && "returned", flags & REVEALED && "revealed"];
    const title = node === 0 ? "the empty prefix" : `token ${t.token[node]}: ${this.facts(node)}`;
    return element("span", { class: look.filter(Boolean).join(" "), title }, text);
  }

  line(chain) {
    const last = chain[chain.length - 1], t = this.tree, parts = [];
    const shown = chain.length > 32 ? [...chain.slice(0, 31), last] : chain;
    for (const node of shown) {
      parts.push(this.token(node));
      if (node !== last && (t.flags[node] & (ACCEPTED | REJECTED))) {
        parts.push(element("span", { class: "facts" }, t.flags[node] & ACCEPTED ? "✓ " : "✗ "));
      }
    }
    const known = chain.filter((node) => node > 0);
    let facts = this.facts(last);
    if (known.length > 1 && known.every((node) => t.logprob[node] !== null)) {
      const sum = known.reduce((total, node) => total + t.logprob[node], 0);
      facts = `all p ${probability(sum)}${facts ? " · last " : ""}${facts}`;
    }
    if (shown.length < chain.length) facts = `${plural(chain.length, "token")} · ${facts}`;
    return [...parts, element("span", { class: "facts" }, facts)];
  }

  item(node, open) {
    const chain = this.chain(node), last = chain[chain.length - 1], below = this.children[last];
    if (!below.length) return element("li", {}, element("div", { class: "leaf" }, ...this.line(chain)));
    const details = element("details", { open }, element("summary", {}, ...this.line(chain)));
    const fill = () => { if (details.children.length === 1) details.append(this.list(below)); };
    details.addEventListener("toggle", () => { if (details.open) fill(); });
    if (open) fill();
    return element("li", {}, details);
  }

  list(nodes) {
    const list = element("ul"), t = this.tree;
    let at = 0;
    const more = () => {
      const until = Math.min(nodes.length, at + SIBLINGS);
      for (; at < until; at++) {
        const returned = t.flags[nodes[at]] & RETURNED;
        const open = this.opened < this.most || (returned && this.most);
        this.opened += 1;
        list.append(this.item(nodes[at], Boolean(open)));
      }
      if (at < nodes.length) {
        const button = element("button", { type: "button", onclick: () => { last.remove(); more(); } },
          `${(nodes.length - at).toLocaleString("en")} more`);
        const last = element("li", {}, button);
        list.append(last);
      }
    };
    more();
    return list;
  }

  // `most`: lines that are open from the start; the returned path always is, unless it is 0.
  draw(most = FIRST_OPEN) {
    this.opened = 0;
    this.most = most;
    this.box.replaceChildren(element("ul", {}, this.item(0, true)));
    this.most = 0;
    return this.box;
  }

  prefixText(node) {
    const parts = [];
    for (let i = node; i > 0; i = this.tree.parent[i]) parts.push(this.tree.text[i]);
    const text = parts.reverse().join(this.tree.between);
    return node === 0 ? "∅" : node < 0 ? "(left out)" : JSON.stringify(text.length > 60 ? `…${text.slice(-60)}` : text);
  }

  question([node, what, n, length, report, answer]) {
    const at = this.prefixText(node);
    if (what === "draw") return `${n} × ${length === null ? "to the end" : plural(length, "token")}, ${report}, from ${at}`;
    if (what === "score") return `score ${plural(length, "token")} after ${at}`;
    if (what === "demonstration") return `the demonstration, ${length === null ? "refused" : plural(length, "token")}`;
    return `${what} of ${at}${answer === null ? "" : `: ${answer}`}`;
  }

  events() {
    const list = element("ol", { class: "events", tabindex: "0", "aria-label": "What was asked, in order" });
    const all = this.tree.events, spent = {};
    let at = 0;
    const more = () => {
      const until = Math.min(all.length, at + 200);
      for (; at < until; at++) {
        const event = all[at];
        for (const [name, n] of Object.entries(event.cost)) spent[name] = (spent[name] || 0) + n;
        const asked = event.asked.slice(0, 4).map((one) => this.question(one));
        if (event.asked.length > 4) asked.push(`and ${event.asked.length - 4} more`);
        const paid = event.error ? `refused or failed: ${event.error}` : costText(event.cost);
        list.append(element("li", {}, element("b", {}, `#${event.i} `), asked.join("; "),
          element("span", { class: "facts" }, `${paid}; so far ${(spent.tokens || 0).toLocaleString("en")} tokens`)));
      }
      if (at < all.length) {
        const button = element("button", { type: "button", onclick: () => { last.remove(); more(); } },
          `${(all.length - at).toLocaleString("en")} more`);
        const last = element("li", {}, button);
        list.append(last);
      }
    };
    more();
    return list;
  }

  view() {
    const t = this.tree;
    let zoom = 100;
    const button = (text, name, act) => element("button", { type: "button", "aria-label": name, onclick: act }, text);
    const scale = (change) => { zoom = Math.min(200, Math.max(50, zoom + change)); this.box.style.fontSize = `${0.82 * zoom}%`; };
    const single = element("input", { type: "checkbox", onchange: (e) => { this.single = e.target.checked; this.draw(); } });
    const left = t.left_out[0] + t.left_out[1];
    return [
      element("h3", {}, "What the learner built"),
      element("p", { class: "small" }, `${plural(t.token.length, "node")}, ${plural(t.events.length, "message")}; `
        + `paid: ${costText(t.cost)}.${left ? ` Left out: ${plural(t.left_out[0], "node")} and ${plural(t.left_out[1], "message")}.` : ""}`),
      element("div", { class: "tools" },
        button("Expand", "Expand the tree", () => this.draw(Infinity)),
        button("Collapse", "Collapse the tree", () => this.draw(0)),
        button("−", "Smaller", () => scale(-15)), button("+", "Larger", () => scale(15)),
        element("label", { class: "tick" }, single, "a line per token")),
      element("p", { class: "small" }, element("span", { class: "key" },
        element("span", { class: "tok returned" }, "returned"), element("span", { class: "tok revealed" }, "demonstrated"),
        element("span", { class: "tok rejected" }, "rejected"), "p: probability · ×: times generated · #: message")),
      this.draw(),
      element("h3", {}, "What it asked, in order"),
      this.events(),
    ];
  }
}
