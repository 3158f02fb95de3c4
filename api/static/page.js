// What the pages do better with JavaScript. Everything works without it.
"use strict";

const SOON_MS = 700;
const LATER_MS = 3000;
const IDLE_MS = 10000;
const LOOKS_SOON = 60; // before the later pace

function localTimes(root) {
  const form = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
  for (const time of root.querySelectorAll("time[datetime]")) {
    time.textContent = ("day" in time.dataset ? day : form).format(new Date(time.dateTime));
  }
}

// Replaces what has changed, and leaves the rest alone: pictures do not flicker, focus stays.
function renew(shown, fresh) {
  if (shown.outerHTML === fresh.outerHTML) return shown;
  if (shown.tagName === "PROGRESS" && fresh.hasAttribute("value")) {
    shown.max = fresh.max;
    shown.value = fresh.value;
    return shown;
  }
  shown.replaceWith(fresh);
  return fresh;
}

function renewList(shown, fresh) {
  const wanted = [...fresh.children];
  const ids = new Set(wanted.map((one) => one.id));
  for (const one of [...shown.children]) if (!ids.has(one.id)) one.remove();
  wanted.forEach((one, place) => {
    const old = document.getElementById(one.id);
    const here = old ? renew(old, one) : one;
    if (shown.children[place] !== here) shown.insertBefore(here, shown.children[place] || null);
  });
}

// The parts of a page that change by themselves are marked: data-part, or data-parts for the rows of a list.
function refresh(page) {
  for (const shown of document.querySelectorAll("[data-part], [data-parts]")) {
    const fresh = page.getElementById(shown.id);
    if (!fresh) shown.remove();
    else if ("parts" in shown.dataset) renewList(shown, fresh);
    else renew(shown, fresh);
  }
}

// data-live says how soon there will be news: "soon", or "later"; data-url where, if not at this address.
function follow(root) {
  let looks = 0;
  const pause = () => {
    if (root.dataset.live === "later") return IDLE_MS;
    return looks < LOOKS_SOON ? SOON_MS : LATER_MS;
  };
  const look = async () => {
    looks += 1;
    try {
      const answer = document.hidden ? null : await fetch(root.dataset.url || location.href, { headers: { Accept: "text/html" } });
      if (answer && answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const fresh = page.getElementById(root.id);
        localTimes(page);
        if (fresh) refresh(page);
        root.dataset.live = fresh?.dataset.live ?? "";
      }
    } catch {
      // The API is being restarted: look again.
    }
    if (root.dataset.live) setTimeout(look, pause());
  };
  setTimeout(look, pause());
}

// A button that copies what it stands beside.
function copies(button) {
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
  });
}

document.documentElement.classList.add("scripted");
localTimes(document);
const live = document.querySelector("[data-live]");
if (live && live.dataset.live) follow(live);
for (const button of document.querySelectorAll("[data-copy]")) copies(button);
for (const fields of document.querySelectorAll("[data-chooses]")) { // whoever types figures means them
  fields.addEventListener("input", () => { document.getElementById(fields.dataset.chooses).checked = true; });
}
for (const select of document.querySelectorAll("select[data-submits]")) {
  select.addEventListener("change", () => select.form.requestSubmit());
}
