// The list of attempts, of which only the rows in sight are in the page, and the attempt that is read.

const data = JSON.parse(document.getElementById("data").textContent);
const served = document.body.hasAttribute("data-served");
const OUTCOMES = ["passed", "failed", "error", "abstained"];
const ROW = 30, AROUND = 6;
const $ = (id) => document.getElementById(id);
const box = $("list").firstElementChild, body = box.querySelector("tbody");
const tokensOf = (i) => (data.cost[i] ? data.cost[i].tokens || 0 : data.pieces[i].length);
const taskOf = (i) => data.tasks[data.problems[data.problem[i]].task];
// made when they are first looked at
const outputs = [], hays = [], questions = [];
const outputOf = (i) => (outputs[i] ??= data.pieces[i].join(""));
const hay = (i) => (hays[i] ??= `${outputOf(i)}\n${data.error[i] || ""}\n${data.id[i]}`.toLowerCase());
const question = (p) => (questions[p] ??= `${data.problems[p].prompt}\n${data.problems[p].answer}\n${data.problems[p].id}`.toLowerCase());

const COLUMNS = [
  ["Outcome", (i) => data.outcome[i]], ["Learner", (i) => data.learners[data.learner[i]]],
  ["Problem", (i) => data.problem[i]], ["Output", outputOf],
  ["Wanted", (i) => data.problems[data.problem[i]].answer],
  ["Reward", (i) => data.reward[i] ?? -Infinity], ["Tokens", tokensOf],
];
let shown = [...data.id.keys()];
let sorted = null, down = false, current = 0, chosen = -1, beside = -1, drawn = "";

// ---- filters -------------------------------------------------------------------------------------

// Options for names that have none yet; a choice of one is no choice.
function fill(select, names) {
  for (let i = select.options.length - 1; i < names.length; i++) select.append(element("option", { value: i }, names[i] || "(none)"));
  select.parentElement.hidden = names.length < 2;
}

function choices() {
  for (const name of ["run", "task", "learner", "contract"]) fill($(name), data[`${name}s`]);
}

function find() {
  const want = (id) => ($(id).value === "" ? null : Number($(id).value));
  const run = want("run"), task = want("task"), learner = want("learner"), contract = want("contract"), outcome = want("outcome");
  const text = $("search").value.toLowerCase();
  const hit = text ? data.problems.map((_, p) => question(p).includes(text)) : null;
  shown = [];
  for (let i = 0; i < data.id.length; i++) {
    if (run !== null && data.run[i] !== run) continue;
    if (task !== null && data.problems[data.problem[i]].task !== task) continue;
    if (learner !== null && data.learner[i] !== learner) continue;
    if (contract !== null && data.contract[i] !== contract && !data.grants[i].includes(contract)) continue;
    if (outcome !== null && data.outcome[i] !== outcome) continue;
    if (hit && !hit[data.problem[i]] && !hay(i).includes(text)) continue;
    shown.push(i);
  }
  order();
}

function filter() {
  find();
  box.scrollTop = 0;
  current = 0;
  drawn = "";
  rows();
  tell();
}

function tell() {
  const passed = shown.reduce((n, i) => n + (data.outcome[i] === 0), 0);
  const count = data.id.length, of = shown.length < count ? ` of ${count.toLocaleString("en")}` : "";
  box.querySelector("table").setAttribute("aria-rowcount", count + 1);
  $("count").textContent = shown.length ? `${plural(shown.length, "attempt")}${of}, ${passed.toLocaleString("en")} passed.`
    : count ? `Nothing found${of}.` : "No attempt yet.";
}

function order() {
  if (sorted === null) return;
  const key = COLUMNS[sorted][1], keys = new Map(shown.map((i) => [i, key(i)])), way = down ? -1 : 1;
  shown.sort((a, b) => {
    const x = keys.get(a), y = keys.get(b);
    return x === y ? a - b : x < y ? -way : way;
  });
}

function heads() {
  box.querySelectorAll("thead th").forEach((th, i) => {
    const button = element("button", { type: "button" }, COLUMNS[i][0]);
    button.addEventListener("click", () => {
      down = sorted === i ? !down : i >= 5;
      sorted = i;
      box.querySelectorAll("thead th").forEach((other, j) => {
        if (j === i) other.setAttribute("aria-sort", down ? "descending" : "ascending");
        else other.removeAttribute("aria-sort");
      });
      filter();
    });
    th.replaceChildren(button);
  });
}

// ---- rows in sight -------------------------------------------------------------------------------

function gap(height) {
  const row = element("tr", { class: "gap", "aria-hidden": "true" }, element("td", { colspan: 7 }));
  row.style.height = row.firstChild.style.height = `${height}px`;
  return row;
}

function row(place) {
  const i = shown[place], outcome = OUTCOMES[data.outcome[i]], problem = data.problems[data.problem[i]];
  const cut = (text) => (text.length > 160 ? `${text.slice(0, 160)}…` : text);
  const output = cut(outputOf(i) || data.error[i] || "");
  return element("tr", { "data-row": place, "aria-rowindex": place + 2, class: i === chosen || i === beside ? "chosen" : "" },
    element("th", { class: "text", scope: "row" }, element("button", { type: "button", class: outcome,
      tabindex: place === current ? "0" : "-1", "aria-label": `${outcome}: ${data.learners[data.learner[i]]} on ${problem.id}` }, outcome)),
    element("td", { class: "text", title: data.learners[data.learner[i]] }, data.learners[data.learner[i]]),
    element("td", { class: "text", title: problem.id }, problem.id),
    element("td", { class: "text code" }, output), element("td", { class: "text code" }, cut(problem.answer)),
    element("td", {}, data.reward[i] === null ? "" : String(Number(data.reward[i].toPrecision(4)))),
    element("td", {}, tokensOf(i).toLocaleString("en")));
}

function rows() {
  const first = Math.max(0, Math.floor(box.scrollTop / ROW) - AROUND);
  const last = Math.min(shown.length, Math.ceil((box.scrollTop + box.clientHeight) / ROW) + AROUND);
  const now = `${first} ${last} ${current} ${chosen} ${beside}`;
  if (now === drawn) return;
  drawn = now;
  const made = [gap(first * ROW)];
  for (let place = first; place < last; place++) made.push(row(place));
  made.push(gap((shown.length - last) * ROW));
  body.replaceChildren(...made);
}

function go(place) {
  current = Math.min(shown.length - 1, Math.max(0, place));
  const top = current * ROW, room = box.clientHeight - 2 * ROW;
  if (top < box.scrollTop) box.scrollTop = top;
  if (top > box.scrollTop + room) box.scrollTop = top - room;
  drawn = "";
  rows();
  body.querySelector(`[data-row="${current}"] button`)?.focus({ preventScroll: true });
}

function keys(event) {
  if (event.target.closest("thead")) return;
  const page = Math.floor(box.clientHeight / ROW) - 2;
  const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[event.key];
  if (step !== undefined && shown.length) {
    event.preventDefault();
    go(current + step);
  }
}

// ---- the attempt that is read --------------------------------------------------------------------

function output(i) {
  const made = element("pre", { tabindex: "0", "aria-label": "Output" }), mark = data.mark[i], pieces = data.pieces[i];
  if (!pieces.length && !outputOf(i)) return element("p", { class: "small" }, data.error[i] ? "No output." : "No output, or an empty one.");
  pieces.forEach((piece, at) => {
    if (data.known[i] && mark && at === mark[0]) made.append(element("mark", {}, piece || "ε"));
    else made.append(at < data.given[i] && data.known[i] ? element("span", { class: "given" }, piece) : piece);
  });
  return made;
}

function facts(i) {
  const mark = data.mark[i], p = data.problems[data.problem[i]];
  const where = mark && `token ${mark[0] + 1}: ` + (mark[1] === "verifier"
    ? "the verifier accepts what is before it, and rejects it" : "here it leaves the demonstration");
  const said = [
    ["Outcome", element("span", { class: OUTCOMES[data.outcome[i]] }, OUTCOMES[data.outcome[i]])],
    ["Reward", data.reward[i] === null ? "none" : String(data.reward[i])], ["Wrong at", where],
    ["Start", data.given[i] ? `${plural(data.given[i], "token")} given, the others sampled` : null],
    ["Step", data.step[i]], ["Problem", p.id], ["Run", data.runs.length > 1 ? data.runs[data.run[i]] : null],
    ["Contract", data.contracts[data.contract[i]]], ["Cost", data.cost[i] ? costText(data.cost[i]) : null],
    ["Surprisal", data.surprisal[i] === null ? null : `${data.surprisal[i].toFixed(2)} nats`],
    ["Stopped", data.stopped[i] && `by its ${data.stopped[i]}`], ["Error", data.error[i]],
  ];
  const list = element("dl");
  for (const [name, value] of said) {
    if (value !== null && value !== undefined && value !== "") list.append(element("dt", {}, name), element("dd", {}, value));
  }
  return list;
}

async function tree(i, place) {
  if (!data.has_tree[i]) return;
  try {
    const said = served ? await (await fetch(`tree?attempt=${i}`)).json() : data.trees[i];
    if (!said) place.replaceChildren(element("p", { class: "small" }, "The tree of this attempt is left out of this file."));
    else if (said.error) place.replaceChildren(element("p", { class: "error" }, said.error));
    else place.replaceChildren(...new TreeView(said).view());
  } catch (error) {
    place.replaceChildren(element("p", { class: "error" }, `The tree cannot be had: ${error.message}`));
  }
}

function article(i) {
  const p = data.problems[data.problem[i]], place = element("div");
  const none = data.has_tree[i] ? "The tree is on its way." : data.step[i] !== null ? "" : "No transcript was kept, so there is no tree.";
  place.append(element("p", { class: "small" }, none));
  const made = element("article", { "aria-label": data.learners[data.learner[i]] },
    element("h2", {}, data.learners[data.learner[i]]), facts(i), element("h3", {}, "Output"), output(i),
    element("h3", {}, "Wanted"), element("pre", { tabindex: "0", "aria-label": "Wanted" }, p.answer || "(not known)"),
    element("details", {}, element("summary", {}, "Prompt"), element("pre", { tabindex: "0", "aria-label": "Prompt" },
      p.prompt || `(not known as text${p.prompt_tokens === null ? "" : `, ${plural(p.prompt_tokens, "token")}`})`)), place);
  tree(i, place);
  return made;
}

function besideOption(j) {
  const run = data.runs.length > 1 ? `${data.runs[data.run[j]]}: ` : "", step = data.step[j] === null ? "" : ` step ${data.step[j]}`;
  return element("option", { value: j, selected: j === beside },
    `${run}${data.learners[data.learner[j]]}${step}, ${data.contracts[data.contract[j]]}: ${OUTCOMES[data.outcome[j]]}`);
}

function others(i) {
  const p = data.problems[data.problem[i]], found = [];
  for (let j = 0; j < data.id.length; j++) if (j !== i && data.problems[data.problem[j]].id === p.id) found.push(j);
  const select = element("select", { id: "beside", onchange: (e) => open(chosen, e.target.value === "" ? -1 : Number(e.target.value)) },
    element("option", { value: "" }, found.length ? "(nothing)" : "(no other on this problem)"));
  for (const j of found.slice(0, 500)) select.append(besideOption(j));
  return element("label", {}, "Beside it, on the same problem", select);
}

function open(i, other = -1, focus = false) {
  [chosen, beside] = [i, other];
  const detail = $("detail");
  detail.hidden = false;
  const close = element("button", { type: "button", onclick: () => { detail.hidden = true; chosen = beside = -1; drawn = ""; go(current); } }, "Close");
  const articles = [i, other].filter((j) => j >= 0).map(article);
  detail.replaceChildren(element("div", { class: "tools" }, others(i), close), element("div", { class: "pair" }, ...articles));
  history.replaceState(null, "", `#${i}${other >= 0 ? `,${other}` : ""}`);
  drawn = "";
  rows();
  if (focus) {
    detail.querySelector("select").focus({ preventScroll: true });
    detail.scrollIntoView({ block: "nearest" });
  }
}

// ---- begin ---------------------------------------------------------------------------------------

document.body.classList.add("script");
for (const name of ["run", "task", "learner", "contract", "outcome"]) {
  $(name).append(element("option", { value: "" }, name === "contract" ? "any" : "all"));
  $(name).addEventListener("change", filter);
}
choices();
fill($("outcome"), OUTCOMES);
$("search").addEventListener("input", filter);
$("filters").hidden = false;
heads();
rows();
tell();
box.addEventListener("scroll", rows, { passive: true });
box.addEventListener("keydown", keys);
body.addEventListener("click", (event) => {
  const at = event.target.closest("tr[data-row]");
  if (!at) return;
  current = Number(at.dataset.row);
  open(shown[current], -1, true);
});
new ResizeObserver(rows).observe(box);
const asks = location.hash.match(/^#(\d+)(?:,(\d+))?$/);
const there = (i) => i !== undefined && Number(i) < data.id.length;
if (asks && there(asks[1])) open(Number(asks[1]), there(asks[2]) ? Number(asks[2]) : -1);
