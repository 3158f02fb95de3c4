// What the console does better with JavaScript: keys, a claim that lasts while its page is open, notes that are not lost.

const IDLE_MS = 10 * 60 * 1000; // without a sign of the person, a claim is left to run out
const MUTE = "shield.single-keys"; // in localStorage: "off" where single keys shall not act
const WARM = "shield.heat"; // in localStorage: "on" where heat maps lie over the faces
const LOOK_MS = 700; // between the first looks whether an explanation is made; later ones come more slowly
const SLOWEST_LOOK_MS = 5000;
const LOOKS = 60; // about four minutes: a worker that died of it is replaced within one
const DRAFT = "shield.note."; // in sessionStorage, and a case's id: a note that is not sent yet
const CHOICE = "shield.reason."; // likewise its reason

const review = document.getElementById("review");

// Whether it was done, and the answer's number; redirects are answers too.
async function post(path, fields) {
  const answer = await fetch(path, { method: "POST", body: new URLSearchParams(fields), redirect: "manual" });
  await answer.text(); // an answer that is not read keeps its connection
  return { done: answer.ok || answer.type === "opaqueredirect", status: answer.status };
}

// ---- Keys. What a key does stands in the page, as aria-keyshortcuts of what it presses; `?` lists them.

function typing(element) {
  return element.matches("textarea, select, input:not([type=checkbox], [type=radio])");
}

function shortcuts() {
  const shown = [...document.querySelectorAll("[aria-keyshortcuts]")];
  return shown.filter((element) => !element.disabled && element.checkVisibility());
}

// What a key presses; of many alike, the one in the card that has the focus.
function pressed(key) {
  const fits = shortcuts().filter((element) => element.getAttribute("aria-keyshortcuts") === key);
  const card = document.activeElement?.closest(".card");
  return fits.find((element) => card?.contains(element)) ?? fits[0];
}

// On a keyboard of another script a letter is known by its place.
function letter(event) {
  if (/^[!-~]$/.test(event.key)) return event.key.toLowerCase();
  return /^Key[A-Z]$/.test(event.code) ? event.code.at(-1).toLowerCase() : event.key;
}

function keys() {
  const help = document.getElementById("help");
  const single = document.getElementById("single-keys");
  const muted = () => localStorage.getItem(MUTE) === "off";
  const show = () => {
    single.checked = !muted();
    review.toggleAttribute("data-mute", muted());
  };
  single.addEventListener("change", () => {
    localStorage.setItem(MUTE, single.checked ? "on" : "off");
    show();
  });
  show();
  const open = () => {
    list(help);
    help.showModal();
    help.querySelector("form button").focus();
  };
  document.querySelector("[data-help]").addEventListener("click", open);

  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || help.open || sent) return;
    if (event.key === "Escape" && typing(event.target)) event.target.blur();
    if (typing(event.target)) return;
    if (event.key === "?") {
      open();
    } else if (!muted()) {
      const found = pressed(letter(event));
      if (!found || (event.repeat && !found.dataset.repeats)) return;
      event.preventDefault();
      if (typing(found)) found.focus();
      else found.click();
    }
  });
}

function list(help) {
  const known = new Set();
  const lines = shortcuts().flatMap((element) => {
    const name = element.getAttribute("aria-keyshortcuts");
    if (known.has(name)) return [];
    known.add(name);
    const key = document.createElement("dt");
    const does = document.createElement("dd");
    key.append(Object.assign(document.createElement("kbd"), { textContent: name.length === 1 ? name.toUpperCase() : name }));
    const words = (element.labels?.[0] ?? element).cloneNode(true);
    for (const hint of words.querySelectorAll("kbd, textarea, select")) hint.remove();
    does.textContent = element.dataset.does ?? words.textContent.trim();
    return [key, does];
  });
  help.querySelector("#help-keys").replaceChildren(...lines);
}

// Whatever is sent, is sent once: a second press while the answer is on its way would answer the next case.
let sent = false;
function once() {
  addEventListener("submit", (event) => {
    if (event.target.method !== "post" || event.submitter?.formMethod === "dialog") return; // nothing is sent
    if (sent) event.preventDefault();
    sent = true;
  });
  addEventListener("pageshow", () => { sent = false; });
}

// ---- How photos are shown.

function veils(form) {
  for (const box of form.querySelectorAll("input[type=checkbox]")) {
    box.addEventListener("change", () => {
      review.toggleAttribute(`data-${box.name}`, box.checked);
      post(form.action, new FormData(form)); // kept for the next page; this one shows it already
    });
  }
}

// A button that is pressed while `review` has the attribute; `kept`: also on the next page.
function toggle(id, attribute, kept = "") {
  const button = document.getElementById(id);
  const show = (on) => {
    review.toggleAttribute(attribute, on);
    button.setAttribute("aria-pressed", String(on));
  };
  if (!button) return;
  show(kept ? localStorage.getItem(kept) === "on" : button.getAttribute("aria-pressed") === "true");
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    show(on);
    if (kept) localStorage.setItem(kept, on ? "on" : "off");
  });
}

// The face that is pointed at in the list, among many in the photo.
function point(list, frame) {
  const mark = (event, on) => {
    const face = event.target.closest("[data-face]")?.dataset.face;
    if (face) frame.querySelector(`g[data-face="${face}"]`)?.classList.toggle("pointed", on);
  };
  list.addEventListener("pointerover", (event) => mark(event, true));
  list.addEventListener("pointerout", (event) => mark(event, false));
}

function picture(frame) {
  const image = frame.querySelector("img");
  const gone = () => {
    frame.hidden = true;
    document.getElementById("gone").hidden = false;
    for (const near of document.querySelectorAll(".near-by")) near.remove();
  };
  if (image.complete && image.naturalWidth === 0) gone();
  else image.addEventListener("error", gone);
}

// ---- A case: its note survives whatever happens to the page, its claim lasts while somebody is there.

function draft(form, id) {
  const note = form.querySelector("textarea");
  note.value ||= sessionStorage.getItem(DRAFT + id) ?? "";
  note.addEventListener("input", () => sessionStorage.setItem(DRAFT + id, note.value));
  const chosen = sessionStorage.getItem(CHOICE + id);
  const kept = form.querySelector("[name=reason]:checked") ?? form.querySelector(`[name=reason][value="${chosen}"]`);
  if (kept) kept.checked = true;
  let restored = document.getElementById("refusal") ? null : kept;
  form.addEventListener("change", ({ target }) => {
    if (target.name !== "reason") return;
    restored = null;
    sessionStorage.setItem(CHOICE + id, target.value);
  });
  // Whoever takes an answer back mostly gives the other one: a reason that came back by itself does not hinder them.
  form.addEventListener("submit", ({ submitter }) => {
    if (restored && submitter.name === "answer" && !restored.dataset.fits.split(" ").includes(submitter.value)) restored.checked = false;
  });
}

function hold(claim) {
  let seen = Date.now();
  for (const sign of ["keydown", "pointermove", "pointerdown", "scroll"]) {
    addEventListener(sign, () => { seen = Date.now(); }, { passive: true });
  }
  const timer = setInterval(async () => {
    if (Date.now() - seen > IDLE_MS) return;
    try {
      const answer = await post(claim.dataset.renew, new FormData(claim));
      if (answer.done || answer.status >= 500) return;
      clearInterval(timer);
      document.getElementById("lost").hidden = false;
    } catch {
      // No connection: the next one may come through while the claim still lasts.
    }
  }, Number(claim.dataset.seconds) * 1000 / 4);
}

// Scores are explained by a worker on demand: ask when the case is opened, and put what comes into the page.
async function explain(why, form_token) {
  const item = `/items/${why.dataset.item}`;
  if (why.dataset.state === "none" && !(await post(`${item}/explain`, { form_token })).done) return;
  for (let looks = 0; looks < LOOKS; looks += 1) {
    const answer = await fetch(`${item}/explanation`);
    if (!answer.ok) return;
    const { state } = await answer.json();
    if (state !== why.dataset.state) await retell(why);
    if (state !== "pending") return;
    await new Promise((wake) => setTimeout(wake, Math.min(LOOK_MS * 1.1 ** looks, SLOWEST_LOOK_MS)));
  }
  why.querySelector(".waiting").textContent = "Explaining the scores takes long. Reload the page to look again.";
}

async function retell(why) {
  const page = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
  const told = page.getElementById("why");
  if (!told) return;
  why.dataset.state = told.dataset.state;
  why.replaceChildren(...told.childNodes);
  document.getElementById("heat")?.replaceChildren(...page.getElementById("heat").childNodes);
}

// What the next case will show, while this one is looked at.
function ahead(item, form_token) {
  new Image().src = `${item}/view`;
  post(`${item}/explain`, { form_token });
}

function openCase(page) {
  const decide = document.getElementById("decide");
  if (decide) draft(decide, page.dataset.case);
  const claim = document.getElementById("claim");
  if (claim) hold(claim);
  const stage = document.getElementById("stage");
  if (stage) picture(stage);
  document.getElementById("refusal")?.focus();
  const token = review.querySelector("[name=form_token]").value;
  const why = document.getElementById("why");
  if (why && stage) point(why, stage);
  if (why && ["none", "pending"].includes(why.dataset.state)) explain(why, token).catch(() => {}); // it says more, that is all
  if (page.dataset.next) addEventListener("load", () => ahead(page.dataset.next, token));
}

// ---- The queue: move with j and k, choose with x, answer the chosen together.

function wall(form) {
  const together = document.getElementById("together");
  const boxes = [...form.querySelectorAll("input[name=case_id]:not(:disabled)")];
  const count = () => {
    const chosen = boxes.filter((box) => box.checked).length;
    together.hidden = chosen === 0;
    document.getElementById("tally").textContent = chosen === 1 ? "1 case chosen" : `${chosen} cases chosen`;
  };
  const set = (checked) => {
    for (const box of boxes) box.checked = checked;
    count();
  };
  form.addEventListener("change", count);
  document.getElementById("pick-all").addEventListener("click", () => set(true));
  document.getElementById("pick-none").addEventListener("click", () => set(false));
  count();

  const frames = [...form.querySelectorAll("a.frame")];
  const step = (by) => {
    const at = frames.indexOf(document.activeElement?.closest(".card")?.querySelector("a.frame"));
    frames[Math.min(Math.max(at + by, 0), frames.length - 1)].focus();
  };
  document.getElementById("next-card").addEventListener("click", () => step(1));
  document.getElementById("last-card").addEventListener("click", () => step(-1));
}

review.classList.add("live");
once();
keys();
for (const form of document.querySelectorAll(".veils")) veils(form);
toggle("show", "data-shown");
toggle("boxes", "data-boxed");
toggle("warm", "data-warm", WARM);
for (const toast of document.querySelectorAll("[data-done]")) {
  for (const kept of [DRAFT, CHOICE]) sessionStorage.removeItem(kept + toast.dataset.done);
}
for (const select of document.querySelectorAll(".narrow-by select")) {
  select.addEventListener("change", () => select.form.requestSubmit());
}
const page = document.getElementById("case");
if (page) openCase(page);
const form = document.getElementById("wall");
if (form) wall(form);
