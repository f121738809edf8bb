// What a run adds while the page is open: asked for again and again, unless nobody looks.

const SOON = 2000, LATER = 10000;
let timer = null, asking = false, ran = false;

// Where somebody reads stays where it is: the row on top, the row with the focus, the attempt that is open.
function keepPlace(change) {
  const top = shown[Math.floor(box.scrollTop / ROW)], rest = box.scrollTop % ROW, at = shown[current];
  const focused = body.contains(document.activeElement);
  change();
  current = Math.max(0, shown.indexOf(at));
  drawn = "";
  rows();
  const place = shown.indexOf(top);
  if (box.scrollTop > 0 && place >= 0) box.scrollTop = place * ROW + rest;
  rows();
  if (focused) body.querySelector(`[data-row="${current}"] button`)?.focus({ preventScroll: true });
}

function addTo(select, places) {
  if (!select) return;
  const problem = data.problems[data.problem[chosen]].id;
  const here = places.filter((i) => i !== chosen && data.problems[data.problem[i]].id === problem);
  for (const i of here) if (!select.querySelector(`option[value="${i}"]`)) select.append(besideOption(i));
  if (here.length) select.options[0].textContent = "(nothing)";
}

function take(said) {
  for (const name of ["learners", "contracts", "tasks"]) data[name] = said[name];
  data.problems.push(...said.problems);
  said.places.forEach((place, at) => {
    for (const [name, values] of Object.entries(said.columns)) data[name][place] = values[at];
    delete outputs[place];
    delete hays[place];
  });
  data.seen = said.seen;
  choices();
  keepPlace(find);
  tell();
  if (chosen < 0) return;
  if (said.places.includes(chosen) || said.places.includes(beside)) open(chosen, beside);
  else addTo($("beside"), said.places);
}

function showProgress(runs) {
  const running = runs.some((run) => run.running);
  const shownRuns = runs.filter((run) => run.running || ran || run.done < (run.total || 0));
  $("progress").replaceChildren(...shownRuns.map((run) => element("p", { class: run.running ? "" : "ended" },
    run.total && element("progress", { max: run.total, value: run.done, "aria-label": "done" }) || null, run.text)));
  if (ran && !running) $("said").textContent = "The run has ended.";
  if (running) $("said").textContent = "";
  ran = ran || running;
  return running;
}

async function ask() {
  clearTimeout(timer);
  if (asking || document.hidden) return;
  asking = true;
  let soon = false;
  try {
    const known = `generation=${data.generation}&seen=${data.seen}&problems=${data.problems.length}`;
    const said = await (await fetch(`new?${known}`)).json();
    if (said.error) $("said").textContent = said.error;
    else if (said.generation !== data.generation) location.reload();
    else {
      if (said.places) take(said);
      $("notes").replaceChildren(...said.notes.map((note) => element("p", { class: "note" }, note)));
      soon = showProgress(said.progress);
    }
  } catch {
    $("said").textContent = "Nobody serves this page any longer: what is here stays, nothing new comes.";
  }
  asking = false;
  timer = setTimeout(ask, soon ? SOON : LATER);
}

if (served) {
  document.addEventListener("visibilitychange", ask);
  ask();
}
