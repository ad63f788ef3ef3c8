"use strict";

const LOOK_MS = 1000;
const MOST = 8;
const TICKS = 60;
const word = document.querySelector('meta[name="word"]').content;
const cards = document.getElementById("cards");
const travelled = new Map(); // key of a card -> [{at, moved}]
const busy = new Map(); // key of an action -> true while it runs
const failed = new Map(); // key of an action -> what was said against it
const sure = new Map(); // key of a dangerous action -> until when a second press means it
let latest = null;

// The address holds the secret that let us in: it must not stay in the history.
if (location.search) history.replaceState(null, "", "/");

function el(tag, given, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given || {})) {
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== ""));
  return made;
}

function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let place = 0;
  while (bytes >= 1024 && place < units.length - 1) { bytes /= 1024; place += 1; }
  return `${place ? bytes.toFixed(1) : Math.round(bytes)} ${units[place]}`;
}

function span(seconds) {
  if (!isFinite(seconds)) return "";
  const s = Math.max(0, Math.round(seconds));
  if (s >= 172800) return `${Math.floor(s / 86400)} days`;
  if (s >= 7200) return `${Math.floor(s / 3600)} h`;
  if (s >= 120) return `${Math.floor(s / 60)} min`;
  return `${s} s`;
}

const count = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
const clean = (text) => text.replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]/gu,
  (c) => `\\u${c.codePointAt(0).toString(16).padStart(4, "0")}`);

async function act(key, shown, more) {
  busy.set(key, true); failed.delete(key); draw();
  try {
    const answer = await fetch("/api/act", {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Mountsync-Word": word },
      body: JSON.stringify({ kind: shown.kind, id: shown.id, ...more }),
    });
    if (!answer.ok) {
      const text = await answer.text();
      let said = text;
      try { said = JSON.parse(text).message; } catch { /* a sentence, and no JSON */ }
      failed.set(key, said.trim());
    }
  } catch {
    failed.set(key, "mountsync web does not answer");
  } finally {
    busy.delete(key);
    await look();
  }
}

function button(text, key, shown, more, kind) {
  const press = () => act(key, shown, more);
  return el("button", { type: "button", class: kind || "", disabled: busy.has(key), onclick: press, "data-key": `${key} ${text}` }, text);
}

function guarded(text, question, key, shown, more) {
  const isSure = (sure.get(key) || 0) > Date.now();
  const press = () => {
    if ((sure.get(key) || 0) > Date.now()) { sure.delete(key); act(key, shown, more); }
    else { sure.set(key, Date.now() + 5000); draw(); setTimeout(draw, 5100); }
  };
  return el("button", { type: "button", class: "danger", disabled: busy.has(key), onclick: press, "data-key": key }, isSure ? question : text);
}

function side(bytes, mtime) {
  if (bytes === null) return "absent";
  return mtime === null ? size(bytes) : `${size(bytes)}, ${new Date(mtime / 1e6).toLocaleString()}`;
}

function rest(list) {
  return list.length > MOST ? el("p", { class: "quiet" }, `and ${list.length - MOST} more`) : null;
}

function transfers(list) {
  if (!list.length) return null;
  return el("div", { class: "part" }, el("h3", null, "Under way"), el("ul", null, ...list.slice(0, MOST).map((each) => {
    const share = each.size ? Math.floor(100 * each.done / each.size) : 100;
    const left = each.rate > 0 ? `, ${span((each.size - each.done) / each.rate)} left` : "";
    const up = each.direction === "up";
    const bar = el("i", null);
    bar.style.width = `${share}%`;
    return el("li", null,
      el("div", { class: "row" }, el("span", { class: up ? "up" : "down", title: up ? "to the remote" : "from the remote" }, up ? "↑" : "↓"),
        el("span", { class: "name", title: clean(each.path) }, clean(each.path)),
        el("span", { class: "quiet" }, `${share} % of ${size(each.size)}, ${size(each.rate)}/s${left}`)),
      el("div", { class: "bar", role: "progressbar", "aria-valuenow": share, "aria-valuemin": 0, "aria-valuemax": 100, "aria-label": clean(each.path) }, bar));
  })), rest(list));
}

function conflicts(shown) {
  const list = shown.status.conflicts;
  if (!list.length) return null;
  const near = shown.kind === "job" ? "A" : "here";
  const far = shown.kind === "job" ? "B" : "remote";
  return el("div", { class: "part" }, el("h3", null, count(list.length, "conflict")), el("ul", null, ...list.slice(0, MOST).map((each) => {
    const key = `${shown.kind} ${shown.id} ${each.path}`;
    const keep = (which) => ({ do: "resolve", path: each.path, keep: which });
    return el("li", { "data-path": each.path },
      el("div", { class: "name whole" }, clean(each.path)),
      el("div", { class: "quiet" }, `${near}: ${side(each.local_size, each.local_mtime_ns)} · ${far}: ${side(each.remote_size, each.remote_mtime_ns)}`),
      el("div", { class: "buttons" },
        button("Keep both", key, shown, keep("both"), "first"),
        button(shown.kind === "job" ? "Keep A" : "Keep local", key, shown, keep("local")),
        button(shown.kind === "job" ? "Keep B" : "Keep remote", key, shown, keep("remote"))),
      failed.has(key) ? el("p", { class: "failed" }, failed.get(key)) : null);
  })), rest(list));
}

function problems(list, now) {
  if (!list.length) return null;
  return el("div", { class: "part" }, el("h3", null, count(list.length, "problem")), el("ul", null, ...list.slice(0, MOST).map((each) =>
    el("li", null, el("div", { class: "name whole" }, clean(each.path)),
      el("div", null, el("span", { class: "problem" }, clean(each.reason)),
        each.retry_at === null ? "" : el("span", { class: "quiet" }, `  again in ${span(each.retry_at - now)}`)))
  )), rest(list));
}

function rates(key) {
  const marks = travelled.get(key) || [];
  return marks.slice(1).map((mark, i) => Math.max(0, (mark.moved - marks[i].moved) / Math.max(mark.at - marks[i].at, 0.001)));
}

function traffic(key) {
  const found = rates(key);
  const top = Math.max(0, ...found);
  if (!top) return null;
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("class", "traffic");
  svg.setAttribute("viewBox", `0 0 ${TICKS - 1} 44`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `traffic, at most ${size(top)} per second`);
  const first = TICKS - found.length;
  const points = found.map((rate, i) => `${first + i} ${(42 - 40 * rate / top).toFixed(1)}`);
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", `M${first} 44 L${points.join(" L")} L${TICKS - 1} 44`);
  svg.append(path);
  return el("div", { class: "part" }, el("h3", null, "Traffic ", el("span", { class: "quiet" }, `at most ${size(top)}/s`)), svg);
}

function cache(found) {
  if (!found) return null;
  const words = `${size(found.used)}${found.limit === null ? "" : ` of ${size(found.limit)}`}, ${size(found.dirty)} of it not on the remote${found.pinned ? `, ${count(found.pinned, "pin")}` : ""}`;
  const bar = el("i", null);
  if (found.limit) bar.style.width = `${Math.min(100, 100 * found.used / found.limit)}%`;
  return el("div", { class: "part" }, el("h3", null, "Cache"), words, found.limit ? el("div", { class: "bar" }, bar) : null);
}

function figure(value, label) {
  return el("div", { class: "figure" }, el("b", null, value), el("span", null, label));
}

function buttons(shown) {
  const key = `${shown.kind} ${shown.id}`;
  const said = failed.has(key) ? el("p", { class: "failed" }, failed.get(key)) : null;
  const last = shown.status.last_cycle;
  const since = el("span", { class: "quiet" }, last ? `last look ${span(latest.now - last.finished_at)} ago` : "");
  const can = shown.lost ? null : shown.halted
    ? guarded("It is right so: go on…", shown.status.state === "halted-remote" ? "Press again: it is looked at anew" : "Press again: the deletes are carried out", key, shown, { do: "resume", confirm: true })
    : shown.paused ? button("Go on", key, shown, { do: "resume" }, "first") : button("Pause", key, shown, { do: "pause" });
  return el("div", { class: "foot" }, since, can, said);
}

function card(shown) {
  const key = `${shown.kind} ${shown.id}`;
  const title = shown.kind === "job" ? `job ${shown.id}` : shown.id;
  const status = shown.status;
  const top = el("div", { class: "top" },
    el("div", { class: "title" }, el("h2", null, clean(title)), el("span", { class: "state" }, shown.saying)),
    el("p", { class: "remote" }, clean(shown.remote)),
    shown.error ? el("p", { class: "reason" }, clean(shown.error)) : null,
    status && status.reason ? el("p", { class: "reason" }, clean(status.reason)) : null);
  if (!status) return el("section", { class: `card ${shown.level}` }, top);
  const rate = status.transfers.reduce((sum, each) => sum + each.rate, 0);
  return el("section", { class: `card ${shown.level}`, "data-id": shown.id }, top,
    el("div", { class: "figures" },
      figure(status.pending.toLocaleString("en"), status.pending ? `waiting, ${size(status.pending_bytes)}` : "nothing waiting"),
      figure(`${size(rate)}/s`, count(status.transfers.length, "transfer")),
      figure(status.entries.toLocaleString("en"), "names known")),
    conflicts(shown), problems(status.problems, latest.now), transfers(status.transfers), traffic(key), cache(status.cache), buttons(shown));
}

function summary() {
  const all = latest.shown;
  const waiting = all.reduce((sum, each) => sum + (each.status ? each.status.pending : 0), 0);
  const open = all.reduce((sum, each) => sum + (each.status ? each.status.conflicts.length : 0), 0);
  const bad = all.filter((each) => each.level === "bad").length;
  const words = [count(all.filter((each) => each.kind === "mount").length, "mount"), count(all.filter((each) => each.kind === "job").length, "job")];
  if (waiting) words.push(`${waiting.toLocaleString("en")} waiting`);
  if (open) words.push(count(open, "conflict"));
  if (bad) words.push(`${bad} in trouble`);
  return words.join(" · ");
}

// Brings what is shown to what it should be, and leaves every element that can stay: a button must not
// vanish under the finger, nor a selection under the mouse.
function morph(old, fresh) {
  if (old.nodeType === Node.TEXT_NODE && fresh.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  const same = old.nodeName === fresh.nodeName && old.nodeType === fresh.nodeType
    && (old.dataset || {}).key === (fresh.dataset || {}).key && (old.dataset || {}).id === (fresh.dataset || {}).id;
  if (!same) { old.replaceWith(fresh); return; }
  for (const { name } of [...old.attributes]) if (name !== "style" && !fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (name !== "style" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  if (old.style && old.style.cssText !== fresh.style.cssText) old.style.cssText = fresh.style.cssText;
  morphChildren(old, [...fresh.childNodes]);
}

function morphChildren(old, fresh) {
  const there = [...old.childNodes];
  fresh.forEach((child, i) => { if (i < there.length) morph(there[i], child); else old.append(child); });
  for (const extra of there.slice(fresh.length)) extra.remove();
}

function draw() {
  if (!latest) return;
  const made = latest.shown.length ? latest.shown.map(card)
    : [el("p", { class: "empty" }, "Nothing is mounted, and no job runs. ", el("code", null, "mountsync mount REMOTE MOUNTPOINT"))];
  if (latest.shown.length === 1) made[0].classList.add("wide");
  morphChildren(cards, made);
  document.getElementById("summary").textContent = summary();
  const bad = latest.shown.some((each) => each.level === "bad" || (each.status && each.status.conflicts.length));
  document.title = bad ? "● mountsync" : "mountsync";
}

function remember() {
  for (const each of latest.shown) {
    if (!each.status || !each.status.totals) continue;
    const key = `${each.kind} ${each.id}`;
    const marks = travelled.get(key) || [];
    marks.push({ at: latest.now, moved: each.status.totals.bytes_up + each.status.totals.bytes_down });
    travelled.set(key, marks.slice(-TICKS - 1));
  }
}

async function look() {
  const lost = document.getElementById("lost");
  try {
    const answer = await fetch("/api/overview", { cache: "no-store" });
    if (!answer.ok) throw new Error(await answer.text());
    latest = await answer.json();
    remember();
    draw();
    lost.hidden = true;
  } catch (error) {
    console.warn(String(error));
    lost.hidden = false;
  }
}

async function keepLooking() {
  for (;;) {
    if (!document.hidden || !latest) await look();
    await new Promise((done) => setTimeout(done, LOOK_MS));
  }
}

keepLooking();
