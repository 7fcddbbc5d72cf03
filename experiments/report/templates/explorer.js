"use strict";
// Steps through the sessions of the page. Texts are set as text, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("sessions").textContent);
  const at = (id) => document.getElementById(id);
  const SIDES = ["first", "second"];
  const EVENTS = {
    died: (a) => `No longer into: ${a}`,
    born: (a) => `Now into: ${a}`,
    woken: (a) => `Into it again: ${a}`,
    slept: (a) => `Less into for now: ${a}`,
    refined: (a, b) => `From ${a} to: ${b}`,
  };

  function make(tag, className, ...children) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    element.append(...children.filter((child) => child !== null && child !== ""));
    return element;
  }

  // The order is that of _packed in explorer.py.
  function read(step) {
    const [flat, slate, feedback, reward, patience, goodwill, history, belief, query, events,
      reasons, [wording, about]] = step;
    const interests = [];
    for (let i = 0; i < flat.length; i += 2) {
      interests.push({ text: data.phrases[flat[i]], share: flat[i + 1] });
    }
    interests.sort((a, b) => b.share - a.share);
    return {
      interests, feedback, reward, patience, goodwill, history, belief,
      reasons: new Map(reasons.map(([slot, id, cosine]) => [slot, [data.phrases[id], cosine]])),
      slate: slate.map((item) => data.titles[item]),
      query: query < 0 ? "" : data.phrases[query],
      instruction: wording ? wording.replace("{}", () => data.phrases[about]) : "",
      events: events.map(([kind, ...ids]) =>
        (EVENTS[kind] || ((a) => a))(...ids.map((id) => data.phrases[id]))),
    };
  }

  const task = () => data.tasks[at("task").selectedIndex];
  const sessions = () => task().users[at("user").selectedIndex].sessions;
  const chosen = (side) => sessions()[at(side).selectedIndex];
  const longest = () => Math.max(...SIDES.map((side) => chosen(side).steps.length));
  const returns = (session) => {
    let sum = 0;
    return session.steps.map((step) => (sum += step[3]));
  };
  const ending = (session) => session.survived
    ? `stayed to the end, step ${session.steps.length}`
    : `left after step ${session.steps.length}`;

  // Steps in which an interest died, of either agent's session.
  const switches = () => [...new Set(SIDES.flatMap((side) => chosen(side).steps
    .flatMap((step, t) => (step[9].some(([kind]) => kind === "died") ? [t] : []))))]
    .sort((a, b) => a - b);

  function fill(id, names, wanted) {
    const list = at(id);
    list.replaceChildren(...names.map((name) => make("option", "", name)));
    list.selectedIndex = Math.max(0, names.indexOf(wanted));
    list.closest("label").hidden = id === "task" && names.length < 2;
  }

  function agents() {
    const all = sessions();
    const several = (agent) => all.filter((session) => session.agent === agent).length > 1;
    return all.map((session) => several(session.agent)
      ? `${session.agent}, training seed ${session.seed}` : session.agent);
  }

  function fillUsers(user) {
    fill("user", task().users.map((each) => each.name), user);
  }

  function fillAgents(first, second) {
    const names = agents();
    const blind = names.filter((name) => !name.startsWith("oracle"));
    const [above, best] = blind.length > 1 ? blind.slice(-2) : [names[0], names[names.length - 1]];
    fill("first", names, names.includes(first) ? first : above);
    fill("second", names, names.includes(second) ? second : best);
  }

  function bar(from, width, className) {
    const inner = make("span", className || "");
    inner.style.marginLeft = `${from}%`;
    inner.style.width = `${width}%`;
    const outer = make("span", "bar", inner);
    outer.setAttribute("aria-hidden", "true");
    return outer;
  }

  function interestList(interests) {
    return make("ul", "interests", ...interests.map(({ text, share }) =>
      make("li", "", make("span", "name", text), make("span", "number", `${share} %`),
        bar(0, share))));
  }

  function gauges(step) {
    const half = 50 * Math.min(1, Math.abs(step.goodwill) / data.goodwill);
    return make("ul", "gauges",
      make("li", "", make("span", "name", "Patience"),
        make("span", "number", step.patience.toFixed(1)),
        bar(0, 100 * Math.max(0, Math.min(1, step.patience / data.patience)))),
      make("li", "", make("span", "name", "Goodwill"),
        make("span", "number", step.goodwill.toFixed(2)),
        bar(step.goodwill < 0 ? 50 - half : 50, half, step.goodwill < 0 ? "bad" : "")));
  }

  function outcome(step) {
    const chosen = step.feedback.filter((z) => z >= 0);
    const satisfied = chosen.filter((z) => z === 1).length;
    if (chosen.length > 1) return `${chosen.length} chosen, ${satisfied} satisfied.`;
    if (!chosen.length) return "Nothing chosen.";
    return satisfied ? "Chosen and satisfied." : "Chosen, but not satisfied.";
  }

  function slateList(step) {
    return make("ol", "slate", ...step.slate.map((text, slot) => {
      const satisfied = step.feedback[slot] === 1;
      if (step.feedback[slot] < 0) return make("li", "", text);
      const mark = satisfied ? "✓ chosen, satisfied" : "✗ chosen, not satisfied";
      const [interest, cosine] = step.reasons.get(slot) || [];
      const why = interest && make("span", "why",
        `nearest interest: ${interest}, cosine ${(cosine / 100).toFixed(2)}`);
      return make("li", satisfied ? "good" : "bad", text, " ", make("strong", "", mark), why || "");
    }));
  }

  function changes(step) {
    const lines = [...step.events];
    if (step.query) lines.push(`Typed: “${step.query}”`);
    if (step.instruction) lines.push(`Said: “${step.instruction}”`);
    return lines.length ? make("ul", "changes", ...lines.map((line) => make("li", "", line)))
      : make("p", "faint", "No interest came or went.");
  }

  function show(side, t) {
    const session = chosen(side);
    const sums = returns(session);
    const panel = at(`panel-${side}`);
    const heading = make("h3", "", at(side).value);
    const ended = t >= session.steps.length;
    panel.classList.toggle("ended", ended);
    if (ended) {
      const total = sums[sums.length - 1].toFixed(2);
      const words = `The session has ended: the user ${ending(session)}, with a return of ${total}.`;
      panel.replaceChildren(heading, make("p", "over", words));
      return `${at(side).value}: ended, ${ending(session)}.`;
    }
    const step = read(session.steps[t]);
    const errors = [["the agent believes", step.belief], ["the history says", step.history]];
    const off = errors.filter(([, error]) => error !== null)
      .map(([what, error]) => `, ${what} ${error}° off`).join("");
    panel.replaceChildren(
      heading,
      make("p", "sums", make("strong", "", `Return ${sums[t].toFixed(2)}`),
        `, of which ${step.reward.toFixed(2)} in this step`),
      make("h4", "", "The user is into", make("span", "faint", off)),
      interestList(step.interests), gauges(step),
      make("h4", "", "Shown"), slateList(step), make("p", "outcome", outcome(step)),
      make("h4", "", "Then"), changes(step));
    return `${at(side).value}: ${outcome(step)} Return ${sums[t].toFixed(2)}. `
      + step.events.join(". ");
  }

  function drawing(tag, attributes, ...children) {
    const element = document.createElementNS(at("spark").namespaceURI, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  function spark(t) {
    const lines = SIDES.map((side) => [0, ...returns(chosen(side))]);
    const top = Math.max(0.01, ...lines.flat());
    const last = longest();
    const x = (i) => (100 * i / last).toFixed(2);
    const words = SIDES.map((side, i) =>
      `${at(side).value} ${ending(chosen(side))}: ${lines[i][lines[i].length - 1].toFixed(1)}`);
    at("spark").setAttribute("aria-label", `Return so far, step by step. ${words.join("; ")}`);
    at("spark").replaceChildren(
      ...switches().map((i) =>
        drawing("line", { class: "switch", x1: x(i + 1), x2: x(i + 1), y1: 27, y2: 30 })),
      drawing("line", { class: "now", x1: x(t + 1), x2: x(t + 1), y1: 0, y2: 30 }),
      ...lines.map((line, i) => drawing("polyline", { class: SIDES[i],
        points: line.map((y, j) => `${x(j)},${(29 - 28 * y / top).toFixed(2)}`).join(" ") })));
    at("legend").replaceChildren("Return so far: ", make("span", "first", words[0]), " · ",
      make("span", "second", words[1]));
  }

  // Steps that show, type or speak of a text, in either session.
  function found() {
    const wanted = at("find").value.trim().toLocaleLowerCase();
    if (!wanted) return [];
    const holds = (step) => [...step.slate, step.query, step.instruction, ...step.events,
      ...step.interests.map(({ text }) => text)].some((text) =>
      text.toLocaleLowerCase().includes(wanted));
    return [...Array(longest()).keys()].filter((t) => SIDES.some((side) =>
      t < chosen(side).steps.length && holds(read(chosen(side).steps[t]))));
  }

  function search() {
    const steps = found();
    const t = Number(at("step").value) - 1;
    const next = steps.find((each) => each > t) ?? steps[0];
    at("matches").textContent = !at("find").value.trim() ? ""
      : steps.length ? `in ${steps.length} of ${longest()} steps` : "in no step";
    if (next !== undefined) move(next - t);
  }

  function update() {
    const last = longest();
    const slider = at("step");
    slider.max = last;
    const t = Number(slider.value) - 1;
    at("position").textContent = `step ${t + 1} of ${last}`;
    slider.setAttribute("aria-valuetext", at("position").textContent);
    at("previous").disabled = t <= 0;
    at("next").disabled = t >= last - 1;
    at("jump").disabled = !switches().some((each) => each > t);
    spark(t);
    at("said").textContent = `Step ${t + 1}. ` + SIDES.map((side) => show(side, t)).join(" ");
  }

  function move(by) {
    at("step").value = Number(at("step").value) + by;
    update();
  }

  at("previous").addEventListener("click", () => move(-1));
  at("next").addEventListener("click", () => move(1));
  at("jump").addEventListener("click", () => {
    const t = Number(at("step").value) - 1;
    move(switches().find((each) => each > t) - t);
  });
  at("search").addEventListener("submit", (event) => {
    event.preventDefault();
    search();
  });
  at("step").addEventListener("input", update);
  at("task").addEventListener("change", () => {
    const kept = SIDES.map((side) => at(side).value);
    fillUsers(at("user").value);
    fillAgents(...kept);
    update();
  });
  at("user").addEventListener("change", () => {
    fillAgents(...SIDES.map((side) => at(side).value));
    update();
  });
  for (const side of SIDES) at(side).addEventListener("change", update);
  document.addEventListener("keydown", (event) => {
    const own = event.target === document.body || at("explorer").contains(event.target);
    const free = own && !/^(SELECT|INPUT)$/.test(event.target.tagName);
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || !free || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    move(by);
  });

  fill("task", data.tasks.map((each) => each.name));
  fillUsers();
  fillAgents();
  at("explorer").hidden = false;
  update();
})();
