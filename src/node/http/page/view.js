// The live view of a cluster: the page of `hustings node --http` and the widget of `cluster.watch()` in notebooks.
//
//   source (server-sent events, or a notebook's kernel) --message--> Model (what is known) --> panels (what is seen)
//
// Names come from other machines and from users, so whatever is shown is made of text nodes; nothing here parses HTML.

const KEPT_ROWS = 400;
const KEPT_NAMES = 2000;
const KEPT_MARKS = 600;
const OLD_NEWS_US = 5e6;
const GONE_S = 20;
const ALIKE_US = 5e6;
const LOOK_BACK = 60;
const RIBBON_S = 120;
const RATE_WINDOW_S = 5;
const TASKS_EVERY_MS = 2000;
const COLOURS = 8;
const MOST_ARROWS = 80;
const MANY = new Set(["stolen", "copied", "retried", "reassigned", "late_completion"]);
const ELECTION = new Set(["suspected", "false_suspicion", "polled", "poll_lost", "campaigned", "voted",
  "became_leader", "stepped_down", "followed", "handover_started", "score_corrected"]);
const TASK = MANY;
const REIGN = new Set(["became_leader", "suspected", "stepped_down"]);
const STATES = ["assigned", "pending", "succeeded", "failed", "cancelled", "quarantined", "expired"];

// --- building ------------------------------------------------------------------------------------------------------

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const draw = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// --- words ---------------------------------------------------------------------------------------------------------

const whole = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });
const plural = (count, one, many) => `${whole.format(count)} ${count === 1 ? one : many ?? `${one}s`}`;
const percent = (ratio) => `${Math.round(ratio * 100)} %`;
const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB", { hour12: false });

function rateText(rate) {
  return rate >= 100 ? whole.format(rate) : rate.toFixed(1);
}

function duration(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  return seconds < 100 ? `${seconds.toFixed(1)} s` : `${Math.round(seconds / 60)} min`;
}

/** What happened, as a sentence; `name` turns an id into a name. */
function sentence(row, name, gap_s) {
  const [by, about, count] = [row.node_name, name(row.subject), row.count ?? 1];
  const words = {
    node_started: () => `${by} started`,
    node_stopped: () => `${by} stops`,
    suspected: () => `${by} hears nothing of ${about} (${row.detail}, ${duration(row.value)})`,
    false_suspicion: () => `${by} hears ${about} again`,
    polled: () => `${by} asks the voters: score ${row.score.toFixed(2)}, rank ${row.rank + 1}`,
    poll_lost: () => `${by} found no majority: ${row.detail}`,
    campaigned: () => `${by} stands for term ${row.term}`,
    voted: () => `${by} votes for ${about} in term ${row.term}`,
    became_leader: () => `${by} leads in term ${row.term}`
      + (gap_s === undefined ? "" : `, ${duration(gap_s)} after the last leader was missed`),
    stepped_down: () => `${by} leads no more`,
    followed: () => `${by} follows ${about} in term ${row.term}`,
    handover_started: () => `${by} hands over to ${about}: ${row.detail}`,
    score_corrected: () => `${about} told an impossible score (${row.detail})`,
    storage_failed: () => `${by}: storage failed: ${row.detail}`,
    member_joined: () => `${row.detail || about} joined`,
    member_lost: () => `${about} is gone, last heard ${duration(row.value)} before`,
    member_moved: () => `${about} moved to ${row.detail}`,
    stolen: () => `${about} took ${plural(count, "task")} from ${row.detail}`,
    copied: () => `${about} runs ${plural(count, "copy", "copies")} beside ${row.detail}`,
    retried: () => `${plural(count, "task")} of ${about} will run again: ${row.detail}`,
    reassigned: () => `${plural(count, "task")} taken from ${about}: ${row.detail}`,
    late_completion: () => `${plural(count, "late result")} of ${about} refused`,
    fault: () => `${by}: ${row.detail} ${row.subject ? about : ""}`,
  };
  return (words[row.kind] ?? (() => `${by}: ${row.kind} ${row.detail}`))();
}

// --- what is known ---------------------------------------------------------------------------------------------------

/** All that was told so far: members with their last known scores, rows, reigns, and how counters grow. */
export class Model {
  constructor() {
    this.status = null;
    this.problem = null;
    this.members = new Map();
    this.known = new Map(); // names and colours, also of those that are gone
    this.rows = [];
    this.marks = [];
    this.reigns = [];
    this.gaps = new Map();
    this.counted = [];
    this.skew_ms = null;
  }

  apply(message) {
    if (message.first) Object.assign(this, new Model());
    const rows = message.rows ?? [];
    const fresh = [];
    for (const row of rows) fresh.push(this.addRow(row));
    if (rows.some((row) => REIGN.has(row.kind))) this.follow();
    if (message.status) this.addStatus(message.status);
    this.rows.sort((a, b) => a.at_us - b.at_us);
    this.rows.splice(0, Math.max(0, this.rows.length - KEPT_ROWS));
    for (const id of this.known.keys()) {
      if (this.known.size <= KEPT_NAMES) break;
      if (!this.members.has(id)) this.known.delete(id);
    }
    return fresh;
  }

  addStatus(status) {
    this.problem = status.error ?? status.problem ?? null;
    if (status.error) return;
    const from_leader = status.members.some((member) => member.load);
    const there = new Set();
    const names = new Set(status.members.filter((member) => member.alive).map((member) => member.name));
    for (const member of status.members) {
      // A voter keeps its seat when its node is gone; one that came back under its name may not have it yet.
      if (!member.alive && names.has(member.name)) continue;
      there.add(member.id);
      const known = this.members.get(member.id);
      if (known && !member.alive && !member.slots) Object.assign(member, { x: known.x, y: known.y, slots: known.slots });
      // Only the leader hears from everybody; of the others the last known figures stay.
      const figures = from_leader || !known ? {} : { score: known.score, load: known.load,
        alive: known.alive && member.alive, draining: known.draining, queued: known.queued, running: known.running };
      if (!this.members.has(member.id)) member.colour = this.nextColour();
      this.members.set(member.id, { ...known, ...member, ...figures });
      this.known.set(member.id, { name: member.name, colour: this.members.get(member.id).colour });
    }
    this.status = status;
    const now = performance.now() / 1000;
    for (const [id, member] of this.members) {
      if (there.has(id)) member.gone_at = undefined;
      // Who is a member no more is shown as gone for a while, unless another one has its name by now.
      else if (names.has(member.name) || (member.gone_at ??= now) < now - GONE_S) this.members.delete(id);
      else Object.assign(member, { alive: false, queued: 0, running: 0 });
    }
    this.counted.push({ at: now, counters: status.counters });
    while (this.counted.length > 2 && now - this.counted[1].at > RATE_WINDOW_S) this.counted.shift();
  }

  nextColour() {
    const used = [...this.members.values()].map((member) => member.colour);
    for (let colour = 0; colour < COLOURS; colour += 1) if (!used.includes(colour)) return colour;
    return this.members.size % COLOURS;
  }

  addRow(row) {
    const late = row.at_us / 1000 - Date.now();
    this.skew_ms = this.skew_ms === null ? Math.max(0, late) : Math.max(this.skew_ms, late, 0);
    if (!this.known.has(row.node)) this.known.set(row.node, { name: row.node_name });
    if (REIGN.has(row.kind)) this.marks.push(row);
    const alike = (known) => known.kind === row.kind && known.subject === row.subject && known.detail === row.detail
      && row.at_us - known.since_us < ALIKE_US;
    const known = MANY.has(row.kind) ? this.rows.slice(-LOOK_BACK).find(alike) : undefined;
    if (known) {
      known.count += row.count ?? 1;
      known.at_us = Math.max(known.at_us, row.at_us);
    } else {
      this.rows.push({ ...row, count: row.count ?? 1, since_us: row.at_us });
    }
    return row;
  }

  /** Who led from when to when, and what came in between: computed anew, as rows of several nodes come in any order. */
  follow() {
    this.marks.sort((a, b) => a.at_us - b.at_us);
    this.marks.splice(0, Math.max(0, this.marks.length - KEPT_MARKS));
    const led = this.marks.filter((row) => row.kind === "became_leader");
    const key = (row) => `${row.node} ${row.term}`;
    this.gaps.clear();
    this.reigns = led.map((row, index) => {
      const next_us = led[index + 1]?.at_us ?? Infinity;
      const ends = (mark) => mark.at_us > row.at_us && mark.at_us <= next_us
        && (mark.kind === "suspected" ? mark.subject === row.node : mark.kind === "stepped_down" && mark.node === row.node);
      // A suspicion long before the next leader was wrong; without a next one the status tells.
      const near = (mark) => next_us === Infinity || next_us - mark.at_us < 60e6;
      const missed = this.marks.find((mark) => ends(mark) && near(mark))?.at_us ?? null;
      if (led[index + 1]) this.gaps.set(key(led[index + 1]), missed === null ? undefined : (next_us - missed) / 1e6);
      const until_us = next_us === Infinity ? null : Math.min(missed ?? next_us, next_us);
      return { node: row.node, name: row.node_name, term: row.term, from_us: row.at_us, until_us, missed_us: missed };
    });
  }

  get leader() {
    return this.status ? this.members.get(this.status.leader_node) ?? null : null;
  }

  name(id) {
    return this.known.get(id)?.name ?? (id ? `${id.slice(0, 6)}…` : "nobody");
  }

  colour(id) {
    return this.known.get(id)?.colour ?? "gone";
  }

  byName(name) {
    for (const member of this.members.values()) if (member.name === name) return member;
    return null;
  }

  /** How fast a counter grew lately, per second. */
  rate(counter) {
    const [first, last] = [this.counted[0], this.counted.at(-1)];
    if (!first || last.at - first.at < 0.2) return 0;
    return Math.max(0, (last.counters[counter] - first.counters[counter]) / (last.at - first.at));
  }

  /** The cluster's clock, in microseconds. */
  now_us() {
    return (Date.now() + (this.skew_ms ?? 0)) * 1000;
  }
}

// --- the head: who leads, how it stands ------------------------------------------------------------------------------

function head() {
  const badge = make("span", { class: "hst-dot" });
  const leader = make("strong", { class: "hst-leader", "aria-live": "polite" });
  const term = make("span", { class: "hst-chip" });
  const quorum = make("span", { class: "hst-chip" });
  const link = make("span", { class: "hst-chip hst-link", role: "status" });
  const alarm = make("p", { class: "hst-alarm", hidden: true, role: "alert" });
  const element = make("header", { class: "hst-head" },
    make("span", { class: "hst-word", text: "hustings" }),
    make("span", { class: "hst-reign" }, badge, leader), term, quorum, link);
  return {
    elements: [element, alarm],
    link(state) {
      setText(link, state);
      link.dataset.state = state;
    },
    update(model) {
      const { status, leader: who } = model;
      alarm.hidden = !model.problem;
      setText(alarm, model.problem ?? "");
      if (!status) return;
      const ready = who && status.leader_ready;
      setText(leader, who ? `${who.name} leads` : "nobody leads");
      badge.dataset.colour = who ? who.colour : "none";
      element.dataset.led = ready ? "yes" : "no";
      setText(term, `term ${status.term}`);
      const need = Math.floor(status.voters / 2) + 1;
      setText(quorum, status.voters
        ? `${status.voters_reachable} of ${plural(status.voters, "voter")}, need ${need}` : "no voters known");
      quorum.dataset.state = status.voters_reachable >= need ? "well" : "ill";
    },
  };
}

// --- the ribbon: who led when ----------------------------------------------------------------------------------------

function ribbon() {
  const bars = draw("g");
  const marks = draw("g");
  const picture = draw("svg", { class: "hst-ribbon", viewBox: "0 0 1000 28", preserveAspectRatio: "none",
    role: "img", "aria-label": "who led in the last two minutes" }, bars, marks);
  const legend = make("div", { class: "hst-ribbon-legend" });
  const title = make("h2", { text: "Who led" });
  const hint = make("span", { class: "hst-hint", text: "last 2 minutes; red: nobody" });
  const element = make("section", { class: "hst-panel hst-led" }, make("div", { class: "hst-title" }, title, hint),
    picture, legend);
  return {
    elements: [element],
    update(model) {
      const now = model.now_us();
      const begin = now - RIBBON_S * 1e6;
      const x = (us) => Math.max(0, Math.min(1000, (1000 * (us - begin)) / (RIBBON_S * 1e6)));
      const shown = model.reigns.filter((reign) => (reign.until_us ?? now) > begin);
      const parts = [];
      let last = null;
      for (const reign of shown) {
        const until = reign.until_us ?? (model.leader ? now : reign.missed_us ?? now);
        if (last !== null && reign.from_us > last) parts.push(gap(x(last), x(reign.from_us)));
        const colour = model.colour(reign.node);
        const bar = draw("rect", { x: x(reign.from_us), y: 2, height: 24, class: "hst-fill", "data-colour": colour,
          width: Math.max(1, x(until) - x(reign.from_us)) },
        draw("title", { text: `${reign.name}, term ${reign.term}` }));
        parts.push(bar);
        last = until;
      }
      if (last !== null && last < now) parts.push(gap(x(last), 1000));
      bars.replaceChildren(...parts);
      const names = new Map(shown.map((reign) => [reign.node, reign.name]));
      const key = [...names].map(([id, name]) => `${id}${name}${model.colour(id)}`).join();
      if (legend.dataset.key !== key) {
        legend.dataset.key = key;
        legend.replaceChildren(...[...names].map(([id, name]) => make("span", {},
          make("i", { class: "hst-dot", "data-colour": model.colour(id) }), name)));
      }
    },
  };

  // What takes milliseconds is drawn a little wider than it was, to be seen at all.
  function gap(from, to) {
    const width = Math.max(3, to - from);
    return draw("rect", { x: to - width, y: 0, width, height: 28, class: "hst-gap" });
  }
}

// --- the map: nodes where they stand, and what passes between them -----------------------------------------------------

/** One unit of the map is one pixel, so that words stay as large as all others, however narrow it is. */
function frameOf(width) {
  const narrow = width < 560;
  return { width, height: Math.round(Math.max(300, Math.min(520, width * 0.56))), narrow, margin: narrow ? 64 : 92,
    size: narrow ? 0.8 : 1 };
}

function placeAll(members, frame) {
  const places = new Map();
  const xs = members.map((member) => member.x);
  const ys = members.map((member) => member.y);
  const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const standing = new Set(members.map((member) => `${member.x},${member.y}`));
  const [cx, cy] = [frame.width / 2, frame.height / 2];
  const crowded = frame.size * (members.length > 24 ? 0.62 : members.length > 12 ? 0.8 : 1);
  if (standing.size < members.length) {
    // Some share a place (all do, where no positions were given): a ring shows everybody.
    members.forEach((member, index) => {
      const angle = (2 * Math.PI * index) / members.length - Math.PI / 2;
      const [rx, ry] = members.length === 1 ? [0, 0] : [cx - frame.margin * 1.5, cy - frame.margin];
      places.set(member.id, { x: cx + rx * Math.cos(angle), y: cy + ry * Math.sin(angle), size: crowded });
    });
    return { places, ring: true };
  }
  const scale = Math.min((frame.width - 2 * frame.margin) / (right - left || 1),
    (frame.height - 2 * frame.margin) / (high - low || 1));
  for (const member of members) {
    places.set(member.id, { x: cx + scale * (member.x - (left + right) / 2),
      y: cy - scale * (member.y - (low + high) / 2), size: crowded });
  }
  return { places, ring: false };
}

function nodeFigure(member) {
  const r = 30;
  const turn = 2 * Math.PI * r;
  const score = draw("circle", { r, class: "hst-score", "stroke-dasharray": `0 ${turn}`, transform: "rotate(-90)" });
  const name = draw("text", { class: "hst-name", y: 5, text: member.name });
  const crown = draw("path", { class: "hst-crown", d: "M-15 -39 -17 -53 -7 -46 0 -56 7 -46 17 -53 15 -39Z" });
  const slots = draw("rect", { class: "hst-slots", x: -26, y: 40, height: 6, width: 0, rx: 3 });
  const figures = draw("text", { class: "hst-figures", y: 62 });
  const title = draw("title");
  const group = draw("g", { class: "hst-node" }, title,
    draw("circle", { r: 42, class: "hst-pulse" }), draw("circle", { r: 24, class: "hst-core" }),
    draw("circle", { r, class: "hst-track" }), score, crown, name,
    draw("rect", { class: "hst-slot-track", x: -26, y: 40, height: 6, width: 52, rx: 3 }), slots, figures);
  return {
    group,
    update(now, place, leads, narrow) {
      group.setAttribute("transform", `translate(${place.x.toFixed(1)} ${place.y.toFixed(1)}) scale(${place.size})`);
      group.dataset.colour = now.colour;
      group.dataset.state = !now.alive ? "gone" : leads ? "leads" : "well";
      group.dataset.seat = now.voter ? "voter" : "worker";
      const ratio = Math.max(0, Math.min(1, now.score));
      score.setAttribute("stroke-dasharray", `${(ratio * turn).toFixed(1)} ${turn.toFixed(1)}`);
      setText(name, now.name.length > 7 ? `${now.name.slice(0, 6)}…` : now.name);
      const busy = Math.min(1, now.running / Math.max(1, now.slots));
      slots.setAttribute("width", (52 * busy).toFixed(1));
      const queue = now.queued > 0 ? ` + ${whole.format(now.queued)}${narrow ? "" : " queued"}` : "";
      setText(figures, now.alive ? `${now.running}/${now.slots}${narrow ? "" : " running"}${queue}` : "gone");
      setText(title, `${now.name}: score ${now.score.toFixed(2)}, ${now.voter ? "voter" : "worker"}, ${now.address}`);
    },
    flash(kind) {
      group.classList.remove(`hst-${kind}`);
      void group.getBoundingClientRect(); // so that the same animation begins again
      group.classList.add(`hst-${kind}`);
      setTimeout(() => group.classList.remove(`hst-${kind}`), 1600);
    },
  };
}

function map() {
  const arrows = draw("g", { class: "hst-arrows" });
  const nodes = draw("g");
  const tips = ["steal", "vote", "hand"].map((kind) => draw("marker", { id: `hst-tip-${kind}`, viewBox: "0 0 8 8",
    refX: 6, refY: 4, markerUnits: "userSpaceOnUse", markerWidth: 14, markerHeight: 14, orient: "auto" },
  draw("path", { d: "M0 0 8 4 0 8Z", class: `hst-a-${kind} hst-tip` })));
  let frame = frameOf(800);
  const picture = draw("svg", { class: "hst-map", viewBox: `0 0 ${frame.width} ${frame.height}`, role: "img",
    "aria-label": "the nodes where they stand; the table below says the same" }, draw("defs", {}, ...tips), arrows, nodes);
  const hint = make("span", { class: "hst-hint" });
  const key = make("ul", { class: "hst-key" },
    make("li", {}, make("i", { class: "hst-k-ring" }), "ring: score"),
    make("li", {}, make("i", { class: "hst-k-bar" }), "bar: slots in use, and queued"),
    make("li", {}, make("i", { class: "hst-k-steal" }), "steal"),
    make("li", {}, make("i", { class: "hst-k-vote" }), "vote"),
    make("li", {}, make("i", { class: "hst-k-hand" }), "handover"));
  const element = make("section", { class: "hst-panel hst-mapped" },
    make("div", { class: "hst-title" }, make("h2", { text: "Nodes" }), hint), picture, key);
  const figures = new Map();
  const ways = new Map();
  let places = new Map();
  let latest = null;
  new ResizeObserver(() => {
    const width = Math.round(picture.clientWidth);
    if (width < 80 || width === frame.width) return;
    frame = frameOf(width);
    picture.setAttribute("viewBox", `0 0 ${frame.width} ${frame.height}`);
    if (latest) panel.update(latest);
  }).observe(element);

  /** One arrow for each way: what comes again shows in its place. */
  function arrow(kind, from, to, count) {
    const [a, b] = [places.get(from), places.get(to)];
    if (!a || !b || from === to) return;
    const [dx, dy] = [b.x - a.x, b.y - a.y];
    const length = Math.hypot(dx, dy) || 1;
    const [ux, uy] = [dx / length, dy / length];
    const bend = kind === "steal" ? 0.18 : kind === "hand" ? -0.14 : 0.06;
    const room = 36 * a.size;
    const [x1, y1, x2, y2] = [a.x + ux * room, a.y + uy * room, b.x - ux * (room + 6), b.y - uy * (room + 6)];
    const [mx, my] = [(x1 + x2) / 2 - uy * length * bend, (y1 + y2) / 2 + ux * length * bend];
    const path = draw("path", { class: "hst-way", d: `M${x1} ${y1}Q${mx} ${my} ${x2} ${y2}`, pathLength: 100,
      "marker-end": `url(#hst-tip-${kind})` });
    const group = draw("g", { class: `hst-arrow hst-a-${kind}` }, path);
    if (count) {
      group.append(draw("text", { x: (x1 + 2 * mx + x2) / 4, y: (y1 + 2 * my + y2) / 4 - 4, text: whole.format(count) }));
    }
    const way = `${kind} ${from} ${to}`;
    if (ways.has(way)) group.classList.add("hst-again");
    ways.get(way)?.remove();
    ways.set(way, group);
    arrows.append(group);
    while (arrows.childElementCount > MOST_ARROWS) arrows.firstElementChild.remove();
    setTimeout(() => {
      group.remove();
      if (ways.get(way) === group) ways.delete(way);
    }, kind === "hand" ? 4000 : 2200);
  }

  const panel = {
    elements: [element],
    update(model) {
      const members = [...model.members.values()].sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
      if (members.length === 0) return;
      latest = model;
      const placed = placeAll(members, frame);
      places = placed.places;
      setText(hint, placed.ring ? "in a ring: some share a position" : "where they stand");
      for (const member of members) {
        if (!figures.has(member.id)) {
          figures.set(member.id, nodeFigure(member));
          nodes.append(figures.get(member.id).group);
        }
        figures.get(member.id).update(member, places.get(member.id), model.leader?.id === member.id,
          frame.narrow);
      }
      for (const [id, figure] of figures) {
        if (!model.members.has(id)) {
          figure.group.remove();
          figures.delete(id);
        }
      }
    },
    happen(rows, model) {
      for (const row of rows) {
        if (model.now_us() - row.at_us > OLD_NEWS_US) continue;
        const by = figures.get(row.node);
        if (row.kind === "stolen") arrow("steal", model.byName(row.detail)?.id, row.subject, row.count ?? 1);
        if (row.kind === "voted") arrow("vote", row.node, row.subject);
        if (row.kind === "handover_started") arrow("hand", row.node, row.subject);
        if (row.kind === "suspected") by?.flash("doubts");
        if (row.kind === "polled" || row.kind === "campaigned") by?.flash("stands");
        if (row.kind === "became_leader") by?.flash("wins");
      }
    },
  };
  return panel;
}

// --- figures: what the cluster does ----------------------------------------------------------------------------------

function numbers() {
  const wanted = [
    ["pending", "waiting", "without a node", null], ["assigned", "assigned", "running or queued", null],
    ["succeeded", "succeeded", "per second", "succeeded"], ["steals", "stolen", "per second", "steals"],
    ["retries", "retries", "per second", "retries"], ["failed", "failed", "per second", "failed"],
    ["reassigned", "reassigned", "from lost nodes", null], ["late_completions", "late, refused", "never counted", null],
  ];
  const cells = wanted.map(([counter, title, under, rate]) => {
    const value = make("strong", { text: "–" });
    const note = make("small", { text: under });
    const cell = make("div", { class: "hst-figure", "data-counter": counter }, make("span", { text: title }), value,
      note);
    return { cell, update(model) {
      const count = model.status?.counters?.[counter] ?? 0;
      setText(value, whole.format(count));
      if (rate) setText(note, `${rateText(model.rate(rate))} per second`);
      cell.dataset.some = count > 0 ? "yes" : "no";
    } };
  });
  const element = make("section", { class: "hst-numbers", "aria-label": "tasks" }, ...cells.map(({ cell }) => cell));
  return { elements: [element], update: (model) => cells.forEach((cell) => cell.update(model)) };
}

// --- the table of nodes ----------------------------------------------------------------------------------------------

function table() {
  const body = make("tbody");
  const columns = ["node", "role", "score", "CPU free", "memory free", "running", "queued", "address"];
  const element = make("section", { class: "hst-panel hst-nodes" },
    make("div", { class: "hst-scroll", tabindex: 0, role: "region", "aria-label": "nodes" },
      make("table", {}, make("thead", {}, make("tr", {}, ...columns.map((text) => make("th", { scope: "col", text })))),
        body)));
  const lines = new Map();

  function line() {
    const dot = make("i", { class: "hst-dot" });
    const [name, role, score, cpu, memory, running, queued, address] = columns.map(() => make("td"));
    const label = document.createTextNode("");
    name.append(dot, label);
    const bar = make("meter", { min: 0, max: 1, value: 0 });
    const figure = make("span");
    score.append(bar, figure);
    for (const cell of [cpu, memory, running, queued]) cell.className = "hst-right";
    address.className = "hst-soft";
    const row = make("tr", {}, name, role, score, cpu, memory, running, queued, address);
    return { row, update(member, leads) {
      dot.dataset.colour = member.alive ? member.colour : "gone";
      if (label.data !== member.name) label.data = member.name;
      setText(role, !member.alive ? "gone" : member.draining ? "draining" : leads ? "leader" : member.voter ? "voter" : "worker");
      row.dataset.state = !member.alive ? "gone" : leads ? "leads" : "well";
      bar.value = Math.max(0, Math.min(1, member.score));
      setText(figure, member.score.toFixed(2));
      setText(cpu, member.load ? percent(member.load.cpu_available) : "–");
      setText(memory, member.load ? percent(member.load.memory_available) : "–");
      setText(running, `${member.running} of ${member.slots}`);
      setText(queued, whole.format(member.queued));
      setText(address, member.address);
    } };
  }

  return {
    elements: [element],
    update(model) {
      const members = [...model.members.values()].sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
      const rows = members.map((member) => {
        if (!lines.has(member.id)) lines.set(member.id, line());
        const known = lines.get(member.id);
        known.update(member, model.leader?.id === member.id);
        return known.row;
      });
      for (const id of lines.keys()) if (!model.members.has(id)) lines.delete(id);
      const same = rows.length === body.children.length && rows.every((row, index) => body.children[index] === row);
      if (!same) body.replaceChildren(...rows);
    },
  };
}

// --- what happened ---------------------------------------------------------------------------------------------------

function happenings() {
  const list = make("ol", { class: "hst-events" });
  const kinds = [["all", () => true], ["elections", (row) => ELECTION.has(row.kind)],
    ["tasks", (row) => TASK.has(row.kind)], ["members", (row) => !ELECTION.has(row.kind) && !TASK.has(row.kind)]];
  let chosen = "all";
  let latest = null;
  const buttons = kinds.map(([name]) => make("button", { type: "button", text: name, "aria-pressed": String(name === chosen),
    onclick() {
      chosen = name;
      buttons.forEach((button) => button.setAttribute("aria-pressed", button.textContent === chosen));
      list.dataset.key = "";
      if (latest) panel.update(latest);
    } }));
  const element = make("section", { class: "hst-panel hst-happened" },
    make("div", { class: "hst-title" }, make("h2", { text: "What happened" }),
      make("div", { class: "hst-choice", role: "group", "aria-label": "which" }, ...buttons)),
    make("div", { class: "hst-scroll", tabindex: 0, role: "region", "aria-label": "what happened" }, list));
  const panel = {
    elements: [element],
    update(model) {
      latest = model;
      const wanted = kinds.find(([name]) => name === chosen)[1];
      const rows = model.rows.filter(wanted).slice(-120).reverse();
      const counts = rows.reduce((sum, row) => sum + row.count, 0);
      const key = [chosen, rows.length, counts, rows[0]?.node, rows[0]?.seq, rows.at(-1)?.seq].join();
      if (list.dataset.key === key) return;
      list.dataset.key = key;
      const items = rows.map((row) => make("li", { "data-kind": row.kind },
        make("time", { text: clock(row.at_us / 1000), datetime: new Date(row.at_us / 1000).toISOString() }),
        make("span", { text: sentence(row, (id) => model.name(id), model.gaps.get(`${row.node} ${row.term}`)) })));
      list.replaceChildren(...(items.length ? items : [make("li", { class: "hst-soft", text: "nothing yet" })]));
    },
  };
  return panel;
}

// --- tasks, and why they are where they are ----------------------------------------------------------------------------

function tasks(source) {
  const body = make("tbody");
  const told = make("div", { class: "hst-why", "aria-live": "polite" },
    make("p", { class: "hst-soft", text: "Choose a task to see why it is where it is." }));
  const state = make("select", { "aria-label": "state", onchange: () => refresh() },
    ...STATES.map((text) => make("option", { value: text, text })));
  const count = make("span", { class: "hst-hint" });
  const wanted = make("input", { type: "text", placeholder: "task id", "aria-label": "task id", size: 12,
    spellcheck: "false", maxlength: 36 });
  const form = make("form", { class: "hst-ask", onsubmit(event) {
    event.preventDefault();
    explain(wanted.value.trim());
  } }, wanted, make("button", { text: "why?" }));
  const element = make("details", { class: "hst-panel hst-tasks" },
    make("summary", {}, make("h2", { text: "Tasks, and why" })),
    make("div", { class: "hst-title" }, state, form, count),
    make("div", { class: "hst-two" },
      make("div", { class: "hst-scroll", tabindex: 0, role: "region", "aria-label": "tasks" },
        make("table", {}, make("thead", {}, make("tr", {},
          ...["task", "function", "node", "attempt"].map((text) => make("th", { scope: "col", text })))), body)),
      told));
  let model = null;
  let chosen = null;
  const lines = new Map();
  element.addEventListener("toggle", () => refresh());

  const line = (task) => make("tr", {},
    make("td", {}, make("button", { type: "button", class: "hst-id", text: `…${task.task_id.slice(-8)}`,
      title: task.task_id, onclick: () => explain(task.task_id) })),
    make("td", { text: task.function }), make("td"), make("td", { class: "hst-right" }));

  async function refresh() {
    if (!element.open || document.hidden) return;
    try {
      const list = await source.ask("tasks", { state: state.value });
      setText(count, list.tasks.length === 0 ? `none is ${state.value}` : plural(list.tasks.length, "task"));
      const rows = list.tasks.map((task) => {
        const row = lines.get(task.task_id) ?? line(task);
        lines.set(task.task_id, row);
        row.toggleAttribute("data-chosen", task.task_id === chosen);
        setText(row.children[2], task.node ? model?.name(task.node) ?? "" : "–");
        setText(row.children[3], String(task.attempt));
        return row;
      });
      const listed = new Set(list.tasks.map((task) => task.task_id));
      for (const id of lines.keys()) if (!listed.has(id)) lines.delete(id);
      for (const gone of [...body.children].filter((row) => !rows.includes(row))) gone.remove();
      // Rows that stay are not touched: somebody may be about to press one.
      rows.forEach((row, index) => {
        if (body.children[index] !== row) body.insertBefore(row, body.children[index] ?? null);
      });
    } catch (error) {
      setText(count, String(error.message ?? error));
    }
  }

  async function explain(id) {
    chosen = id;
    try {
      const why = await source.ask("why", { task: id });
      const steps = why.history.map((step) => make("li", {},
        make("time", { text: clock(step.at_ms) }),
        make("span", { text: [step.kind.replaceAll("_", " "), step.node_name ? `on ${step.node_name}` : "",
          step.attempt ? `(attempt ${step.attempt})` : ""].join(" ") })));
      told.replaceChildren(make("p", { class: "hst-because" }, make("b", { text: why.kind.replaceAll("_", " ") }),
        ` ${why.sentence}`), make("ol", { class: "hst-events" }, ...steps),
      make("p", { class: "hst-soft", text: id }));
    } catch (error) {
      told.replaceChildren(make("p", { class: "hst-soft", text: String(error.message ?? error) }));
    }
  }

  const timer = setInterval(refresh, TASKS_EVERY_MS);
  return { elements: [element], update: (now) => { model = now; }, end: () => clearInterval(timer) };
}

// --- all of it -------------------------------------------------------------------------------------------------------

/** Builds the view below `root` and keeps it up to date; returns what ends it. */
export function mount(root, source) {
  const model = new Model();
  const [top, led, mapped, figures, nodes, happened] = [head(), ribbon(), map(), numbers(), table(), happenings()];
  const asked = tasks(source);
  const panels = [top, led, mapped, figures, nodes, happened, asked];
  root.classList.add("hst");
  root.replaceChildren(...top.elements,
    make("div", { class: "hst-grid" },
      make("div", { class: "hst-main" }, ...figures.elements, ...mapped.elements, ...led.elements, ...nodes.elements),
      make("div", { class: "hst-side" }, ...happened.elements)),
    ...asked.elements);
  top.link("connecting");
  let due = false;
  const show = () => {
    due = false;
    panels.forEach((panel) => panel.update(model));
  };
  const later = () => {
    if (!due) {
      due = true;
      requestAnimationFrame(show);
    }
  };
  const stop = source.start({
    message(message) {
      const fresh = model.apply(message);
      later();
      requestAnimationFrame(() => mapped.happen(fresh, model));
      root.dataset.ready = model.status ? "yes" : "no";
    },
    link: (state) => top.link(state),
  });
  const ticking = setInterval(() => led.update(model), 500);
  return () => {
    clearInterval(ticking);
    asked.end();
    stop();
    root.replaceChildren();
  };
}

/** The node that served this page. */
function pageSource() {
  return {
    start({ message, link }) {
      const events = new EventSource("/events");
      events.onopen = () => link("live");
      events.onmessage = (event) => message(JSON.parse(event.data));
      events.onerror = () => link(events.readyState === EventSource.CLOSED ? "ended" : "reconnecting");
      return () => events.close();
    },
    async ask(what, parameters) {
      const answer = await fetch(`/${what}?${new URLSearchParams(parameters)}`);
      if (!answer.ok) throw new Error((await answer.text()).trim());
      return answer.json();
    },
  };
}

/** The kernel of a notebook, through its widget's messages. */
function widgetSource(widget) {
  const asked = new Map();
  let next = 0;
  return {
    start({ message, link }) {
      const hear = (content) => {
        if (content.type === "news") {
          link("live");
          message(content.news);
        } else if (content.type === "ended") {
          link("ended");
        } else if (content.type === "answer") {
          const waiting = asked.get(content.number);
          asked.delete(content.number);
          if (content.problem) waiting?.reject(new Error(content.problem));
          else waiting?.resolve(content.answer);
        }
      };
      widget.on("msg:custom", hear);
      widget.send({ type: "start" });
      return () => widget.off("msg:custom", hear);
    },
    ask(what, parameters) {
      next += 1;
      const number = next;
      widget.send({ type: "ask", number, what, parameters });
      return new Promise((resolve, reject) => asked.set(number, { resolve, reject }));
    },
  };
}

/** Whether what stands around the widget is dark: notebooks have themes of their own. */
function isDark(element) {
  for (let around = element.parentElement; around; around = around.parentElement) {
    const parts = getComputedStyle(around).backgroundColor.match(/[\d.]+/g)?.map(Number) ?? [];
    if (parts.length >= 3 && (parts[3] ?? 1) > 0.5) return parts[0] + parts[1] + parts[2] < 384;
  }
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

export default {
  render({ model, el }) {
    const root = make("div", { class: "hst-widget" });
    el.append(root);
    root.dataset.theme = isDark(root) ? "dark" : "light";
    return mount(root, widgetSource(model));
  },
};

const page = document.getElementById("hustings-live");
if (page) mount(page, pageSource());
